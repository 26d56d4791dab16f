"""What a search takes on one GPU: ms a cube in batches, from the device's memory and from the host's, stage by stage.

    python benchmarks/gpu.py                                   # on CUDA, under five minutes: weights are the package's
    python benchmarks/gpu.py --device cpu --batch 2 --size 96 --channels 32 --repeats 1    # a smoke test anywhere

The cubes are simulated here, one sky for a batch and noise of its own in each cube, and averaged to four pixels a beam
as a search does.  "From the device" they lie in its memory before the clock starts, "from the host" in the host's.
Each stage is timed by itself, with the device waited for before and after it; "all" is timed without waiting
between stages.  What the search does on the processor (reading, bad channels, cutouts, fits) is not in it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from napari_almadet.detection import load_networks
from napari_almadet.networks.source_finder import from_all_sides
from napari_almadet.search.clean import without_sidelobes
from napari_almadet.search.line_maps import maps, network_input
from napari_almadet.search.noise_units import NoiseUnits, binning, in_noise_units, resample
from napari_almadet.settings import Settings
from napari_almadet.simulation.dataset import cube_of, simulate_cube
from napari_almadet.simulation.observe import Observation

SEED = 45
AIMS = {"from the device": 1.0, "from the host": 3.2}  # ms a cube of 128 x 360 x 360


@dataclass
class Batch:
    """Cubes on their way through the search: what each stage makes of all of them."""

    host: torch.Tensor  # (cubes, channels, ny, nx)
    beam: float
    device: torch.device
    network: torch.nn.Module
    planes: torch.Tensor
    units: list[NoiseUnits]
    clean: list[NoiseUnits]
    images: torch.Tensor

    def load(self) -> None:
        """From the host's memory to the device's."""
        self.planes = self.host.to(self.device, non_blocking=True)

    def divide(self) -> None:
        """Divide each cube by its noise."""
        self.units = [in_noise_units(planes, self.beam) for planes in self.planes]

    def take_off(self) -> None:
        """Take the sidelobes of bright sources off."""
        self.clean = [without_sidelobes(units, self.beam)[0] for units in self.units]

    def look_for_lines(self) -> None:
        """The images that Source Finder looks at."""
        pairs = zip(self.clean, self.units, strict=True)
        images = (maps(clean, raw, self.beam)[0] for clean, raw in pairs)
        self.images = torch.stack([network_input(one, len(self.planes[0])) for one in images])

    def ask(self) -> None:
        """Source Finder's answers, all cubes at a time."""
        with torch.inference_mode():
            from_all_sides(self.network, self.images)

    def stages(self) -> dict[str, Callable[[], None]]:
        """By name, in order."""
        return {
            "load": self.load,
            "noise units": self.divide,
            "sidelobes": self.take_off,
            "line maps": self.look_for_lines,
            "Source Finder, eight sides": self.ask,
        }


def batch_of(n: int, observation: Observation, device: torch.device, network: torch.nn.Module) -> Batch:
    """So many cubes: one simulated, with noise of its own in each."""
    simulated = simulate_cube(SEED, "paper", observation)
    fwhm = cube_of(simulated, "one").beam_fwhm
    k = binning(fwhm)
    planes = resample(simulated.dirty, k)
    rng = np.random.default_rng(SEED)
    rms = 1.4826 * np.median(np.abs(planes - np.median(planes)))
    host = torch.empty(n, *planes.shape, pin_memory=device.type == "cuda")
    for i in range(n):
        host[i] = torch.from_numpy(planes + rng.normal(0, 0.1 * rms, planes.shape).astype(np.float32))
    return Batch(host, fwhm / k, device, network, host, [], [], host)


def wait_for(device: torch.device) -> None:
    """Until all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def milliseconds(work: Callable[[], None], device: torch.device) -> float:
    """How long some work takes, the device waited for before and after."""
    wait_for(device)
    start = time.perf_counter()
    work()
    wait_for(device)
    return 1e3 * (time.perf_counter() - start)


def largest(batch: Batch, most: int) -> int:
    """How many cubes go through at a time, doubled from one batch on until memory is out; tried up to so many."""
    n, host = len(batch.host), batch.host
    while 2 * n <= most:
        batch.host = host.repeat(2 * n // len(host), 1, 1, 1)
        try:
            for work in batch.stages().values():
                work()
            wait_for(batch.device)
        except torch.OutOfMemoryError:
            break
        n *= 2
    batch.host = host
    return n


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64, help="cubes at a time (default 64)")
    parser.add_argument("--size", type=int, default=360, help="pixels of a cube on a side (default 360)")
    parser.add_argument("--channels", type=int, default=128, help="(default 128)")
    parser.add_argument("--repeats", type=int, default=5, help="of which the median is printed (default 5)")
    parser.add_argument(
        "--most", type=int, default=1024, help="the largest batch that is tried, on CUDA (default 1024)"
    )
    options = parser.parse_args()
    networks = load_networks(Settings(device=options.device))
    device = networks.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    observation = Observation(size=options.size, n_channels=options.channels)
    batch = batch_of(options.batch, observation, device, networks.source_finder)
    print(
        f"{name}, torch {torch.__version__}: batches of {options.batch} cubes, {tuple(batch.host.shape[1:])} averaged"
    )
    stages = batch.stages()
    for work in stages.values():  # what is compiled or loaded the first time
        work()
    for stage, work in stages.items():
        taken = median(milliseconds(work, device) for _ in range(options.repeats)) / options.batch
        print(f"  {stage:28} {taken:8.2f} ms a cube")
    on_device = list(stages.values())[1:]
    for where, works in (("from the device", on_device), ("from the host", list(stages.values()))):
        taken = median(milliseconds(lambda w=works: [one() for one in w], device) for _ in range(options.repeats))
        print(f"all, {where:23} {taken / options.batch:8.2f} ms a cube (aim {AIMS[where]} ms at 128 x 360 x 360)")
    if device.type == "cuda":
        print(f"largest batch, of powers of two times {options.batch}: {largest(batch, options.most)} cubes")


if __name__ == "__main__":
    main()
