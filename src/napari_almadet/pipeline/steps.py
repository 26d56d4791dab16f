"""Long work done in steps: it tells how far it is, and stops where it is when nobody asks for the next step."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import wraps
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """How far a run is: ``done`` of ``total`` parts of ``stage``, a sentence such as "Stacking channels"."""

    stage: str
    done: int
    total: int


def finish(steps: Generator[Progress, None, Result], report: Callable[[Progress], object] | None = None) -> Result:
    """Run a generator of progress to its end and return what it returns, telling ``report`` of every step."""
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return end.value
        if report is not None:
            report(progress)


def in_steps(steps: Callable[..., Generator[Progress, None, Result]]) -> Callable[..., Result]:
    """Let a generator function be called as a plain one; its ``steps`` attribute is the generator function.

    ``stack(cube)`` is the image; ``image = yield from stack.steps(cube)`` is the same,
    inside another generator that passes the progress on.
    """

    @wraps(steps)
    def function(*args, **kwargs) -> Result:
        return finish(steps(*args, **kwargs))

    function.steps = steps
    return function
