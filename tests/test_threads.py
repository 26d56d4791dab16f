"""Work spread over threads has the results of work done in one, in its order, and leaves torch as it was."""

from __future__ import annotations

import threading

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from napari_almadet import threads


@pytest.fixture
def three(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cores", lambda: 3)


def test_results_come_in_order(three):
    assert threads.spread(lambda i: i * i, range(20)) == [i * i for i in range(20)]


def test_work_within_work_goes_on_in_its_thread(three):
    """Otherwise threads would wait for others that wait for them."""

    def outer(i: int) -> tuple[int, set[str]]:
        inner = threads.spread(lambda j: (i + j, threading.current_thread().name), range(4))
        return sum(value for value, _ in inner), {name for _, name in inner} - {threading.current_thread().name}

    assert threads.spread(outer, range(6)) == [(4 * i + 6, set()) for i in range(6)]


def test_an_error_comes_through(three):
    def fail(i: int) -> int:
        raise ValueError(f"item {i}")

    with pytest.raises(ValueError, match="item 0"):
        threads.spread(fail, range(4))


@pytest.mark.parametrize("inference", [True, False])
def test_inference_mode_goes_along(three, inference):
    with torch.inference_mode(inference):
        assert set(threads.spread(lambda i: torch.is_inference_mode_enabled(), range(6))) == {inference}


def test_torch_has_one_thread_in_each_and_its_own_number_afterwards(three):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert set(threads.spread(lambda i: torch.get_num_threads(), range(6))) == {1}
        assert torch.get_num_threads() == 2
        with threads.alone():
            with threads.alone():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("said", "n"), [("1", 1), ("2", 2), ("64", 3), ("", 3), ("2,1", 3)])
def test_as_many_threads_as_openmp_may_have_and_no_more_than_cores(three, monkeypatch, said, n):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads.count() == n


def test_what_is_begun_beside_has_a_result():
    assert threads.beside(lambda: 7).result() == 7


def test_blas_has_one_thread_meanwhile_and_its_own_number_afterwards():
    def blas() -> set[int]:
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    with threadpool_limits(2, "blas"):
        with threads.alone(), threads.alone():
            assert blas() == {1}
        assert blas() == {2}
