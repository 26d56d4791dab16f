"""Is the catalogue of a cube that is reversed, mirrored, shifted or cropped the same within its own errors?

    python benchmarks/symmetry.py                    # 6 simulated cubes, dirty and CLEANed ones; some minutes
    python benchmarks/symmetry.py --cubes 20 --seed 7 --scenario galaxies

A cube and what is made of it hold the same voxels, so that their noise is no reason for a difference.  What is printed
for each change: sources of one catalogue that the other has not (those on what was cropped are left out), and how far
positions, widths and fluxes of the others move, in parts of the errors that the catalogue gives: median, 95 % and most.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from napari_almadet import Cube, Settings, detect
from napari_almadet.catalogue.candidate import Candidate, Status
from napari_almadet.detection import load_networks
from napari_almadet.simulation.dataset import cube_of, seed_of, simulate_cube
from napari_almadet.simulation.observe import Observation

SCENARIOS = ("paper", "cleaned-loop", "galaxies", "arrays", "smoothed")
MEASURED = ("x", "y", "z", "f_sum", "fwhm", "w50")
NEAR = 0.7  # beams within which two rows are one source
NOTED = 0.5  # errors by which a number moves that is printed with --notes
MARGIN = 2.0  # beams from a cropped side, within which sources are another's


@dataclass(frozen=True)
class Change:
    """What is done to a cube: a slice of each axis, (channel, y, x)."""

    name: str
    slices: tuple[slice, slice, slice]

    def of(self, cube: Cube) -> Cube:
        """The changed cube, with the same sky coordinates in its header."""
        header = cube.header.copy()
        for axis, cut in zip((3, 2, 1), self.slices, strict=True):
            n = cube.shape[3 - axis]
            start, stop, step = cut.indices(n)
            if step < 0:
                header[f"CDELT{axis}"] *= -1
                header[f"CRPIX{axis}"] = n + 1 - header[f"CRPIX{axis}"]
            else:
                header[f"CRPIX{axis}"] -= start
            header[f"NAXIS{axis}"] = len(range(start, stop, step))
        data = np.ascontiguousarray(np.asarray(cube.data)[self.slices])
        return Cube(
            data, WCS(fits.Header(header)), cube.unit, cube.beams, header, f"{cube.name} {self.name}", notes=cube.notes
        )

    def back(self, at: float, axis: int, n: int) -> float:
        """A place along an axis (0: channel) in the cube that was changed."""
        start, _, step = self.slices[axis].indices(n)
        return start + step * at


ALL, BACK = slice(None), slice(None, None, -1)
CHANGES = (
    Change("channels reversed", (BACK, ALL, ALL)),
    Change("mirrored in x", (ALL, ALL, BACK)),
    Change("mirrored in y", (ALL, BACK, ALL)),
    Change("1 px off the left", (ALL, ALL, slice(1, None))),
    Change("3 px off the left, 2 below", (ALL, slice(2, None), slice(3, None))),
    Change("1 px off the right", (ALL, ALL, slice(0, -1))),
    Change("1 channel off the start", (slice(1, None), ALL, ALL)),
    Change("3 channels off the end", (slice(0, -3), ALL, ALL)),
)


def place(candidate: Candidate, change: Change, shape: tuple[int, int, int]) -> dict[str, float]:
    """What was measured of a candidate, its place in the cube that was changed."""
    found = {name: float(getattr(candidate, name)) for name in MEASURED}
    for name, axis in (("z", 0), ("y", 1), ("x", 2)):
        found[name] = change.back(found[name], axis, shape[axis])
    return found


def comparable(at: dict[str, float], change: Change, shape: tuple[int, int, int], beam: float) -> bool:
    """Whether a source lies away from what was cropped."""
    for name, axis, margin in (("z", 0, 8.0), ("y", 1, MARGIN * beam), ("x", 2, MARGIN * beam)):
        start, stop, step = change.slices[axis].indices(shape[axis])
        if step < 0 or not np.isfinite(at[name]):
            continue
        if (start > 0 and at[name] < start + margin) or (stop < shape[axis] and at[name] > stop - 1 - margin):
            return False
    return True


def same(one: dict[str, float], other: dict[str, float], beam: float) -> float:
    """Distance of two rows in beams; infinite where they cannot be one source."""
    apart = float(np.hypot(one["x"] - other["x"], one["y"] - other["y"])) / beam
    both = np.isfinite(one["z"]) and np.isfinite(other["z"])
    far = both and abs(one["z"] - other["z"]) > max(3.0, 0.3 * abs(one.get("channels", 10.0)))
    return np.inf if apart > NEAR or far else apart


def compare(
    cube: Cube, before: list[Candidate], after: list[Candidate], change: Change, pulls: dict, missed: list[str]
) -> int:
    """Match two catalogues; adds to what moves by how much, and to what is in one of them only."""
    beam, unchanged, n = float(cube.beam_fwhm or 4), Change("", (ALL, ALL, ALL)), 0
    left = [(c, place(c, change, cube.shape)) for c in after]
    for one in before:
        at = place(one, unchanged, cube.shape)
        if not comparable(at, change, cube.shape, beam):
            continue
        near = min(left, key=lambda pair: same(at, pair[1], beam), default=None)
        if near is None or not np.isfinite(same(at, near[1], beam)):
            if one.status is Status.KEPT:
                missed.append(f"{cube.name}: gone {described(one, at)}")
            continue
        other, its = near
        left.remove(near)
        if (one.status is Status.KEPT) != (other.status is Status.KEPT):
            missed.append(f"{cube.name}: {described(one, at)} is now {other.status} with prob {other.prob:.2f}")
            continue
        if one.status is not Status.KEPT:
            continue
        n += 1
        pulls["prob"].append(abs(one.prob - other.prob))
        for name in MEASURED:
            error = np.hypot(getattr(one, f"err_{name}"), getattr(other, f"err_{name}")) / np.sqrt(2)
            if np.isfinite(error) and error > 0:
                pulls[name].append(abs(at[name] - its[name]) / error)
                if pulls[name][-1] > NOTED:
                    moved = f"{name} {at[name]:.3f} is {its[name]:.3f} +- {error:.3f} ({one.method}, {other.method})"
                    pulls["notes"].append(f"{cube.name}: {moved} {described(one, at)}")
    for other, its in left:
        if other.status is Status.KEPT and comparable(its, change, cube.shape, beam):
            missed.append(f"{cube.name}: new {described(other, its)}")
    return n


def described(one: Candidate, at: dict[str, float]) -> str:
    """A candidate in few words."""
    snr = abs(one.f_sum / one.err_f_sum) if one.err_f_sum > 0 else np.nan
    return f"({at['x']:.1f}, {at['y']:.1f}, {at['z']:.1f}) {one.status} {one.kind} prob {one.prob:.2f}, S/N {snr:.1f}"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cubes", type=int, default=1, help="of each scenario")
    parser.add_argument("--scenario", action="append", choices=None, help="default: " + ", ".join(SCENARIOS))
    parser.add_argument("--change", action="append", help="only changes whose name has this in it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--notes", action="store_true", help="also print each number that moves by over half an error")
    given = parser.parse_args()
    networks = load_networks(Settings())
    changes = [c for c in CHANGES if not given.change or any(word in c.name for word in given.change)]
    pulls = {change.name: defaultdict(list) for change in changes}
    missed: dict[str, list[str]] = {change.name: [] for change in changes}
    counts: dict[str, int] = dict.fromkeys(pulls, 0)
    for scenario in given.scenario or SCENARIOS:
        for number in range(given.cubes):
            seed = seed_of("validation", number, scenario, given.seed)
            observation = Observation(size=given.size, n_channels=given.channels)
            cube = cube_of(simulate_cube(seed, scenario, observation=observation), f"{scenario} {number}")
            before = detect(cube, networks=networks).candidates
            for change in changes:
                after = detect(change.of(cube), networks=networks).candidates
                counts[change.name] += compare(cube, before, after, change, pulls[change.name], missed[change.name])
    print(f"{'':28}{'n':>4} {'lost':>4}  " + " ".join(f"{name:>16}" for name in (*MEASURED, "prob")))
    for change in changes:
        row = [
            "/".join(f"{v:.2f}" for v in (np.median(p), np.percentile(p, 95), max(p))) if p else "-"
            for p in (pulls[change.name][name] for name in (*MEASURED, "prob"))
        ]
        lost = len(missed[change.name])
        print(f"{change.name:28}{counts[change.name]:4d} {lost:4d}  " + " ".join(f"{text:>16}" for text in row))
    for change in changes:
        for text in missed[change.name] + (pulls[change.name]["notes"] if given.notes else []):
            print(f"  {change.name}: {text}")


if __name__ == "__main__":
    main()
