"""Long tasks as generators that yield their progress and can be stopped between steps."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast

import numpy as np

if TYPE_CHECKING:
    import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
ResultGiven = TypeVar("ResultGiven", covariant=True)


@dataclass(frozen=True)
class Progress:
    """Progress of a run: ``done`` of ``total`` parts of ``stage``, a phrase such as "Stacking channels"."""

    stage: str
    done: int
    total: int


def finish(steps: Generator[Progress, None, Result], report: Callable[[Progress], object] | None = None) -> Result:
    """Run a generator of progress to its end and return its result, passing every step to ``report``."""
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return end.value
        if report is not None:
            report(progress)


def renamed(steps: Generator[Progress, None, Result], name: Callable[[str], str]) -> Generator[Progress, None, Result]:
    """The same steps, with their stages renamed by ``name``."""
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return end.value
        yield replace(progress, stage=name(progress.stage))


class InSteps(Protocol[Arguments, ResultGiven]):
    """A function that can also be run step by step."""

    @property
    def steps(self) -> Callable[Arguments, Generator[Progress, None, ResultGiven]]:
        """The function as a generator of its progress."""

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> ResultGiven:
        """Run all steps and return the result."""


def in_steps(steps: Callable[Arguments, Generator[Progress, None, Result]]) -> InSteps[Arguments, Result]:
    """Make a generator function callable as a plain function; its ``steps`` attribute is the generator function.

    ``stack(cube)`` is the image; ``image = yield from stack.steps(cube)`` is the same,
    inside another generator that passes the progress on.
    """

    @wraps(steps)
    def function(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return finish(steps(*args, **kwargs))

    function.__dict__["steps"] = steps
    return cast("InSteps[Arguments, Result]", function)


@in_steps
def predict(
    network: Callable[..., Any],
    inputs: np.ndarray,
    stage: str,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
) -> Generator[Progress, None, np.ndarray]:
    """Pass ``inputs`` through a network, a batch at a time.

    Parameters
    ----------
    network
        Torch module, or any callable, from a float32 tensor (batch, ...) to one of the same shape.
    inputs
        Shape (n, ...).
    stage
        Name of the progress.
    device
        The device of ``network``.

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
