"""Does the preset almadet find in CASA's cubes what it finds in our own of the same skies?

CASA wants an environment of its own.  ``make`` needs nothing else, the other two commands need this project:

    python3.11 -m venv casa && casa/bin/pip install casatasks casadata six
    almadet simulate cubes/ -n 4 --set validation --scenario paper     # sky models with their truth, our dirty cubes
    casa/bin/python benchmarks/casa_cubes.py make cubes/              # CASA's dirty cubes of these skies
    python benchmarks/casa_cubes.py score cubes/

``sky`` writes the paper's skies seen by another array or with robust weights, which ``almadet simulate`` does
not; ``make`` observes whatever a folder's ``simulation.json`` says:

    python benchmarks/casa_cubes.py sky c5/ -n 2 --array alma_cycle9_c5 --robust -0.5

``make`` takes half a minute of one core a cube and 1.5 GB of disk, which it gives back.  Broken off, it goes on
where it stopped.  ``score`` counts as ``docs/validation.md`` says, truth's SNRs scaled to the noise that CASA's cube
has.  It prints noise and errors besides, which must agree before a rate means anything, and every source
that is missed and every false candidate.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # CASA's Python has neither
    from pandas import DataFrame

    from napari_almadet.evaluation.scores import Outcome

CASA_CUBE, CASA_PSF = "casa.fits", "casa-psf.fits"
WATER = 0.8  # mm, the paper's; with 230 GHz and 2400 s it gives the noise that our simulation has
PAPER_BEAM = 8.2  # pixels, mean FWHM of the paper's set-up
INTEGRATION = 60.0  # s; robust weights depend on it, so that both sides should have the same


def sky(folder: Path, n: int, scenario: str, array: str, robust: float | None) -> None:
    """Write skies of validation seeds seen by an array, with as many pixels a beam as the paper's."""
    from napari_almadet.simulation.dataset import write_set
    from napari_almadet.simulation.observe import Observation

    observation = Observation(array=array, robust=robust, integration=INTEGRATION).with_beam(PAPER_BEAM)
    for path in write_set(folder, n, which="validation", scenario=scenario, observation=observation, jobs=1):
        print(path)


def make(folders: list[Path], integration: float, pblimit: float) -> None:
    """Let CASA observe and image every sky in some folders that it has not imaged yet."""
    start_casa()
    for about in (about for folder in folders for about in sorted(folder.rglob("simulation.json"))):
        cube, observation = about.parent, json.loads(about.read_text())
        if (cube / CASA_CUBE).exists():
            continue
        if (reason := not_for_casa(observation)) is not None:
            print(f"{cube.name}: left out, it has {reason}")
            continue
        begin, processor = time.perf_counter(), time.process_time()
        with TemporaryDirectory(dir=cube, prefix="casa-") as place:  # beside the result, which is moved when complete
            observe_with_casa(cube / "sky.fits", observation, Path(place), integration, pblimit)
            for made in (CASA_PSF, CASA_CUBE):
                (Path(place) / made).replace(cube / made)
        wall, spent = time.perf_counter() - begin, time.process_time() - processor
        print(f"{cube.name}: {wall:.0f} s, {spent:.0f} s of processor time", flush=True)


def start_casa() -> None:
    """Import CASA with the tables of the package casadata: no configuration file, nothing fetched, no log."""
    import casadata
    from casaconfig import config

    config.datapath, config.measurespath = [casadata.datapath], casadata.datapath
    config.data_auto_update = config.measures_auto_update = False
    config.logfile = os.devnull
    import casatasks  # noqa: F401  reads the configuration now


def not_for_casa(about: dict) -> str | None:
    """What of a simulated cube CASA is not asked to make, if anything."""
    observation = about["observation"]
    wanted = {
        "phase errors": observation["phase_error"] > 0,
        "CLEANed sources": observation["residual"] < 1,
        "a flat primary beam": observation["mosaic"],
        "blank pixels or channels": about["blank_share"] > 0 or about["blank_channels"],
    }
    return next((what for what, there in wanted.items() if there), None)


def observe_with_casa(sky: Path, about: dict, place: Path, integration: float, pblimit: float) -> None:
    """Make CASA's dirty cube of a sky model (Jy/pixel), and its dirty beam at the middle channel, in a folder."""
    from casatasks import exportfits, imsubimage, simobserve, tclean

    observation, seed = about["observation"], about["seed"] % 2**31
    # noise as of the atmosphere where that is the paper's; elsewhere what the truth supposes
    as_paper = observation["frequency"] == 230e9 and observation["duration"] == 2400
    before, sky = Path.cwd(), sky.resolve()
    os.chdir(place)  # simobserve writes into the working directory
    try:
        simobserve(
            project="sim",
            skymodel=str(sky),
            mapsize="1arcsec",  # one pointing, at the sky's centre
            integration=f"{integration}s",
            hourangle=f"{observation['hour_angle']}h",
            totaltime=f"{observation['duration']}s",
            refdate="2022/10/01",
            antennalist=observation["array"].replace("_", ".").replace("cycle9.c", "cycle9.") + ".cfg",
            thermalnoise="tsys-atm" if as_paper else "",
            user_pwv=WATER,
            seed=seed,
            graphics="none",
        )
        if as_paper:
            visibilities = str(next(Path("sim").glob("*.noisy.ms")))
        else:
            visibilities = str(next(Path("sim").glob("*.ms")))
            add_noise(visibilities, observation["noise"], seed)
        robust = observation["robust"]
        tclean(
            vis=visibilities,
            imagename="image",
            imsize=observation["size"],
            cell=f"{observation['pixel']:.10g}arcsec",
            specmode="cube",
            niter=0,
            **({"weighting": "natural"} if robust is None else {"weighting": "briggs", "robust": robust}),
            pblimit=pblimit,
            pbcor=observation["pb_corrected"],
        )
        exportfits("image.image.pbcor" if observation["pb_corrected"] else "image.image", CASA_CUBE)
        imsubimage("image.psf", "middle.psf", chans=str(observation["n_channels"] // 2))
        exportfits("middle.psf", CASA_PSF)
    finally:
        os.chdir(before)


def add_noise(visibilities: str, noise: float, seed: int) -> None:
    """Add the noise that is ``noise`` Jy/beam in a channel of an image with natural weights."""
    from casatools import simulator, table

    rows = table()
    rows.open(visibilities)
    n = rows.nrows()
    rows.close()
    tool = simulator()
    tool.openfromms(visibilities)
    tool.setseed(seed)
    # the mean of two polarisations, over all visibilities
    tool.setnoise(mode="simplenoise", simplenoise=f"{noise * np.sqrt(2 * n)}Jy")
    tool.corrupt()
    tool.done()


def score(folders: list[Path]) -> None:
    """Search CASA's and our cube of every sky and print what that is worth."""
    from napari_almadet.cube.reading import read_cube
    from napari_almadet.evaluation.finders import Field
    from napari_almadet.evaluation.run import Preset, found_record
    from napari_almadet.evaluation.scores import Outcome
    from napari_almadet.settings import Settings

    search = Preset("almadet", Settings()).ready()
    records, agreement = defaultdict(lambda: ([], [])), defaultdict(list)
    for path in (path for folder in folders for path in sorted(folder.rglob(CASA_CUBE))):
        place, about = path.parent, json.loads((path.parent / "simulation.json").read_text())
        cubes = {"CASA": read_cube(path), "ours": read_cube(place / "dirty.fits")}
        noises = {name: noise_of(cube.read()) for name, cube in cubes.items()}
        kind = kind_of(about)
        agreement[kind].append((noises["CASA"] / noises["ours"], psf_difference(place)))
        for name, cube in cubes.items():
            truths, results = records[kind, name]
            truths.append({"cube": str(place), **truth_of(place, about, noises["ours"] / noises[name])})
            begin = time.process_time()
            found = found_record(search(Field(cube)), cube)
            results.append({"seconds": time.process_time() - begin, "error": None, "sources": found})
    outcomes = {key: Outcome.of(*both) for key, both in records.items()}
    for name in ("CASA", "ours"):
        every = {key: value for key, value in outcomes.items() if key[1] == name}
        outcomes["all", name] = Outcome.joined(every.values())
    for (kind, name), outcome in outcomes.items():
        if name == "CASA" and kind in agreement:
            noise, psf = zip(*agreement[kind], strict=True)
            print(f"\n{kind}: noise {min(noise):.3f} to {max(noise):.3f} of ours, dirty beam within {max(psf):.4f}")
        print_rates(kind, name, outcome)
    for name in ("CASA", "ours"):
        print_wrong(name, outcomes["all", name])


def kind_of(about: dict) -> str:
    """Scenario, array and weights of a cube."""
    observation = about["observation"]
    robust = observation["robust"]
    return f"{about['scenario']}, {observation['array']}, {'natural' if robust is None else f'robust {robust:+.1f}'}"


def noise_of(planes: np.ndarray) -> float:
    """Of a channel, from the differences of neighbouring ones."""
    from astropy.stats import mad_std

    return float(mad_std(np.diff(planes[:, ::3, ::3], axis=0), ignore_nan=True) / np.sqrt(2))


def psf_difference(place: Path) -> float:
    """Largest difference of CASA's dirty beam from ours at the middle channel, up to half the field away."""
    from astropy.io import fits

    theirs, ours = np.squeeze(fits.getdata(place / CASA_PSF)), fits.getdata(place / "psf.fits")
    inside = slice(len(theirs) // 2, len(theirs) // 2 + len(theirs))  # ours is twice as wide
    return float(np.abs(theirs - ours[inside, inside]).max())


def truth_of(place: Path, about: dict, scale: float) -> dict:
    """Truth of a cube as the evaluation records it, its SNRs times ``scale``."""
    from types import SimpleNamespace

    from astropy.table import QTable

    from napari_almadet.evaluation.run import truth_record
    from napari_almadet.evaluation.scores import SNRS
    from napari_almadet.simulation.observe import Observation

    truth = QTable.read(place / "truth.ecsv")
    for snr in SNRS:
        truth[snr] *= scale
    return truth_record(SimpleNamespace(truth=truth, observation=Observation(**about["observation"])))


def print_rates(kind: str, name: str, outcome: Outcome) -> None:
    """Rates with 95 % intervals, and median errors of strong sources."""
    from astropy.stats import mad_std

    from napari_almadet.evaluation.matching import Rate
    from napari_almadet.evaluation.scores import BRIGHT_LINE, BRIGHT_STACK, summary

    row, true, found = summary(outcome), outcome.true, outcome.found
    print(f"\n{kind}: {name}, {row['cubes']} cubes")
    for what, chosen in (
        (f"stack SNR >= {BRIGHT_STACK:g}", true["snr_stack"] >= BRIGHT_STACK),
        (f"line SNR >= {BRIGHT_LINE:g}", true["snr_line"] >= BRIGHT_LINE),
        ("all", true["snr_stack"] >= 0),
    ):
        print(f"  completeness, {what:20s} {Rate(int(true['matched'][chosen].sum()), int(chosen.sum()))}")
    print(f"  {'purity':34s} {Rate(int(found['matched'].sum()), len(found))}")
    each, low, high = (row[f"false_positives_per_cube{end}"] for end in ("", "_low", "_high"))
    print(f"  {'false candidates a cube':34s} {each:.2f} [{low:.2f}, {high:.2f}] ({row['false_positives']})")
    for what, errors in offsets(true, found).items():
        spread = 1.25 * mad_std(errors) / np.sqrt(len(errors))  # of a median
        print(f"  median error, {what:20s} {np.median(errors):+.3f} +- {spread:.3f}")


def offsets(true: DataFrame, found: DataFrame) -> dict[str, np.ndarray]:
    """Errors with their sign of strong sources that are found; of the flux as a share."""
    from napari_almadet.evaluation.matching import match
    from napari_almadet.evaluation.scores import STRONG

    shifts = [np.empty((0, 2))]
    for cube, sources in true[true["matched"] & (true["snr_stack"] >= STRONG)].groupby("cube"):
        there, here = (frame[["x", "y"]].to_numpy() for frame in (sources, found[found["cube"] == cube]))
        i, j = match(there, here).T
        shifts.append(here[j] - there[i])
    x, y = np.concatenate(shifts).T
    centre, flux = (true[f"{error}_error"][true["snr_line"] >= STRONG] for error in ("line_centre", "flux"))
    errors = {"x (px)": x, "y (px)": y, "line centre (channels)": centre, "flux": flux}
    return {what: kept for what, values in errors.items() if len(kept := np.asarray(values)[np.isfinite(values)])}


def print_wrong(name: str, outcome: Outcome) -> None:
    """Every source that was missed though it should be seen, and every false candidate."""
    from napari_almadet.evaluation.scores import BRIGHT_LINE, BRIGHT_STACK

    true, found = outcome.true, outcome.found
    seen = (true["snr_stack"] >= BRIGHT_STACK) | (true["snr_line"] >= BRIGHT_LINE)
    for what, rows in (("missed", true[seen & ~true["matched"]]), ("false", found[~found["matched"]])):
        for row in rows.itertuples():
            prob = "" if what == "missed" else f", prob {row.prob:.2f}, {row.kind}"
            print(
                f"{name}, {what}: {row.cube} x {row.x:.1f} y {row.y:.1f} z {row.z:.1f}, "
                f"SNR {row.snr_stack:.1f} in the stack, {row.snr_line:.1f} at the line{prob}"
            )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def command(name: str, function: Callable) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=function.__doc__)
        added.set_defaults(function=function)
        return added

    writes = command("sky", sky)
    writes.add_argument("folder", type=Path)
    writes.add_argument("-n", type=int, default=2, help="cubes")
    writes.add_argument("--scenario", default="paper")
    writes.add_argument("--array", default="alma_cycle9_c3")
    writes.add_argument("--robust", type=float, help="Briggs' robustness; default: natural weights")
    makes = command("make", make)
    makes.add_argument("folders", type=Path, nargs="+", help="with cubes in them, or cubes")
    makes.add_argument("--integration", type=float, default=INTEGRATION, help="of a visibility, in seconds")
    makes.add_argument("--pblimit", type=float, default=0.2, help="tclean's: blank beyond; negative: nothing is")
    command("score", score).add_argument("folders", type=Path, nargs="+", help="with cubes in them, or cubes")
    arguments = vars(parser.parse_args())
    arguments.pop("function")(**arguments)


if __name__ == "__main__":
    main()
