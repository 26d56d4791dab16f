"""Long work done in steps: it tells how far it is, and stops where it is when nobody asks for the next step."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import wraps
from typing import TypeVar

import numpy as np

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


def renamed(steps: Generator[Progress, None, Result], name: Callable[[str], str]) -> Generator[Progress, None, Result]:
    """The same steps, with what ``name`` makes of their stages."""
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return end.value
        yield replace(progress, stage=name(progress.stage))


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


@in_steps
def predict(network, inputs: np.ndarray, stage: str, batch_size: int = 16, device="cpu"):
    """Pass ``inputs`` through a network, a batch at a time.

    Parameters
    ----------
    network
        Torch module, or any callable, from a float32 tensor (batch, ...) to one of the same shape.
    inputs
        Shape (n, ...).
    stage
        What the progress is called.
    device
        Where ``network`` is.

    Returns
    -------
    numpy.ndarray
        Float32, the shape of ``inputs``.
    """
    import torch

    answers = np.empty(inputs.shape, np.float32)
    for first in range(0, len(inputs), batch_size):
        batch = slice(first, min(first + batch_size, len(inputs)))
        with torch.inference_mode():  # never held across a yield: it belongs to the thread
            tensor = torch.from_numpy(np.ascontiguousarray(inputs[batch], np.float32))
            answers[batch] = network(tensor.to(device)).cpu().numpy()
        yield Progress(stage, batch.stop, len(inputs))
    return answers
