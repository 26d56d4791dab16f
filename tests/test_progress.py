import pytest

from napari_almadet.progress import Progress, finish, in_steps


@in_steps
def count_to(n):
    """Count."""
    for i in range(n):
        yield Progress("Counting", i + 1, n)
    return "there"


def test_a_function_in_steps_is_also_a_plain_function():
    assert count_to(3) == "there"
    assert count_to.__doc__ == "Count."


def test_the_steps_pass_through_another_generator():
    def outer():
        said = yield from count_to.steps(2)
        return said + "!"

    seen = []
    assert finish(outer(), seen.append) == "there!"
    assert seen == [Progress("Counting", 1, 2), Progress("Counting", 2, 2)]


def test_closing_stops_the_work():
    steps = count_to.steps(3)
    next(steps)
    steps.close()
    with pytest.raises(StopIteration):
        next(steps)
