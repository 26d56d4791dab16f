"""Run the search of windows: one after another in this process, or on a dask.distributed cluster.

The search of a window is a function of the window and the cube only.  A cluster runs the same function on the same
windows; each worker opens the cube by its path and loads the networks once.  If a worker dies, another one repeats its
work.
"""

from __future__ import annotations

import pickle
from collections.abc import Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_almadet.progress import InSteps, Progress, renamed

if TYPE_CHECKING:
    from distributed import Client

    from napari_almadet.cube.cube import Cube


def each(
    task: InSteps[..., Any], items: Sequence, *shared: Any, stage: str, client: Client | None = None
) -> Generator[Progress, None, list]:
    """Apply a task to every item: ``[task(item, *shared) for item in items]``.

    Parameters
    ----------
    task
        A function made by :func:`~napari_almadet.progress.in_steps`.
    shared
        Its other arguments; large ones from :func:`scatter`.
    stage
        Name of the progress on a cluster; in this process, the progress of the task itself is passed on.
    client
        Of the cluster; None for this process.
    """
    if client is None:
        return (yield from each_here(task, items, *shared))
    from distributed import as_completed

    futures = {client.submit(task, item, *shared, pure=False): i for i, item in enumerate(items)}
    results: list[Any] = [None] * len(items)
    try:
        yield Progress(stage, 0, len(items))
        for done, future in enumerate(as_completed(list(futures)), 1):
            results[futures.pop(future)] = future.result()  # so that the workers can free it
            yield Progress(stage, done, len(items))
    finally:
        client.cancel(list(futures))
    return results


def each_here(task: InSteps[..., Any], items: Sequence, *shared: Any) -> Generator[Progress, None, list]:
    """Apply a task to every item, one after the other in this process."""
    results = []
    for number, item in enumerate(items, 1):
        where = f" (window {number} of {len(items)})" if len(items) > 1 else ""
        results.append((yield from renamed(task.steps(item, *shared), partial(_followed_by, where))))
    return results


def _followed_by(where: str, stage: str) -> str:
    return stage + where


def scatter(cube: Cube, client: Client | None) -> Any:
    """A cube as an argument of tasks; on a cluster, every worker opens it once, by its path.

    Raises
    ------
    ValueError
        If there is a cluster, but the cube is in memory only.
    """
    if client is None:
        return cube
    if cube.path is None:
        raise ValueError(f"{cube.name} is in memory only: a cluster needs a file that all its workers can read")
    # as bytes, since the scheduler unpickles what tasks are given, and need not see the files
    return client.submit(pickle.loads, pickle.dumps(cube), pure=False)
