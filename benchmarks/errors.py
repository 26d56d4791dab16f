"""Whether the catalogue's errors are the scatter: (measured - true) / error of all columns that have one.

It searches ``-n`` simulated cubes of each scenario of the validation set, matches what is found with the truth one to
one, and prints, for each column, how many there are, the median and the spread of the ratio (robust and plain; 1 is
right), and the share within one error (0.68 is right).  Sources that share their box with another are left out.
``--table FILE`` keeps what was measured, a row for each source.
"""

from __future__ import annotations

import argparse

import numpy as np
from astropy import units as u
from astropy.stats import mad_std
from astropy.table import Table, vstack

from napari_almadet.cube.cube import Cube
from napari_almadet.detection import detect, load_networks
from napari_almadet.evaluation.matching import match
from napari_almadet.settings import Settings
from napari_almadet.simulation.dataset import cube_of, seed_of, simulate_cube
from napari_almadet.simulation.observation_files import SimulatedCube
from napari_almadet.simulation.observe import Imager, Observation
from napari_almadet.simulation.scenarios import SCENARIOS

COLUMNS = ("x", "y", "ra", "dec", "z", "v_rad", "fwhm", "w50", "w20", "f_sum", "peak", "dc_maj", "dc_min", "dc_pa")


def true_values(simulated: SimulatedCube, cube: Cube, row: dict) -> dict[str, float]:
    """What the columns of a found source should be, in their units."""
    observation = simulated.observation
    x, y, pixel = row["x"].value, row["y"].value, observation.pixel
    seen = 1.0
    if not observation.pb_corrected:
        seen = float(observation.primary_beam()[round(y), round(x)])
    width = abs(np.diff(cube.velocity([0, 1]).to_value(u.km / u.s)))[0]
    major, minor = row["fwhm_major"].value * pixel, row["fwhm_minor"].value * pixel
    beam, shapes = observation.clean_beam, []
    for a, b, angle in (
        (major, minor, row["angle"].value),
        (beam.major * pixel, beam.minor * pixel, beam.angle),
    ):
        sin, cos = np.sin(np.radians(angle)), np.cos(np.radians(angle))
        axes = np.array([[sin, cos], [cos, -sin]])
        shapes.append(axes.T @ np.diag([a**2, b**2]) @ axes)
    area = np.pi / (4 * np.log(2)) * major * minor / pixel**2  # in pixels
    dimmed = beam.major * beam.minor * pixel**2 / np.sqrt(np.linalg.det(shapes[0] + shapes[1]))
    sky, z = cube.sky(x, y).icrs, row["z"]
    line = simulated.model.line_profiles(observation.n_channels)[row["id"] - 1]
    return {
        "x": x,
        "y": y,
        "ra": sky.ra.deg,
        "dec": sky.dec.deg,
        "z": z,
        "v_rad": cube.velocity(z).to_value(u.km / u.s),
        "fwhm": row["fwhm_line"] * width,
        "w50": row["fwhm_line"] * width,
        "w20": row["fwhm_line"] * width * np.sqrt(np.log2(5)),
        "f_sum": line.sum() * area * seen * width,
        "peak": row["line"].value * area * seen * dimmed,
        "dc_maj": major,
        "dc_min": minor,
        "dc_pa": row["angle"].value,
    }


def ratios(simulated: SimulatedCube, networks) -> Table:
    """The sources found in a cube that are of kind line or both and alone in their box: (measured - true) / error."""
    cube = cube_of(simulated, "simulated")
    detections = detect(cube, Settings(), networks=networks)
    table, truth = detections.table(), simulated.truth
    made = []
    places = (np.stack([t["x"].value, t["y"].value], axis=1) for t in (truth, table))
    for j, i in match(*places):
        found, row = {n: table[n][i] for n in table.colnames}, {n: truth[n][j] for n in truth.colnames}
        x, y = truth["x"].value, truth["y"].value
        margin = simulated.observation.clean_beam.fwhm / 2
        near = (x > found["x_min"] - margin) & (x < found["x_max"] + margin)
        near &= (y > found["y_min"] - margin) & (y < found["y_max"] + margin)
        if near.sum() > 1 or found["kind"] == "continuum" or not np.isfinite(row["z"]):
            continue
        values = {"snr": float(row["snr_line"]), "snr_stack": float(row["snr_stack"]), "kind": str(found["kind"])}
        values["unresolved"] = bool(np.isnan(found["dc_maj"]))
        values["limit_holds"] = bool(found["dc_limit"].value >= row["fwhm_major"].value * simulated.observation.pixel)
        for name, true in true_values(simulated, cube, row).items():
            measured, error = (getattr(found[n], "value", found[n]) for n in (name, f"err_{name}"))
            difference = measured - true
            if name in ("ra", "dec"):
                difference *= 3600 * (np.cos(np.radians(cube.sky(0, 0).dec.deg)) if name == "ra" else 1)
            if name == "dc_pa":
                difference = (difference + 90) % 180 - 90
            values[name], values[f"err_{name}"], values[f"d_{name}"] = float(measured), float(error), float(difference)
        made.append(values)
    return Table(rows=made)


def show(scenario: str, table: Table) -> None:
    """Print the ratios of a scenario."""
    print(f"\n{scenario}: {len(table)} sources, SNR of the line {np.median(table['snr']):.1f} in the median")
    print(f"{'column':8s} {'n':>4s} {'median':>7s} {'robust':>7s} {'plain':>7s} {'within 1':>9s}")
    for name in COLUMNS:
        ratio = table[f"d_{name}"] / table[f"err_{name}"]
        ratio = np.asarray(ratio[np.isfinite(ratio)])
        if len(ratio) < 3:
            continue
        numbers = np.median(ratio), mad_std(ratio), ratio.std(), np.mean(np.abs(ratio) < 1)
        print(f"{name:8s} {len(ratio):4d} " + " ".join(f"{v:7.2f}" for v in numbers))
    limits = table[table["unresolved"]]
    if len(limits):
        print(f"unresolved: {len(limits)}; the limit holds for {np.mean(limits['limit_holds']):.2f} of them")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=20, help="cubes of each scenario")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="default: cleaned, paper, beams, discs")
    parser.add_argument("--size", type=int, default=360)
    parser.add_argument("--table", help="ECSV file to keep the measures in")
    arguments = parser.parse_args()
    networks, kept = load_networks(Settings()), []
    observation = Observation(size=arguments.size)
    imager = Imager(observation)
    for scenario in arguments.scenario or ("cleaned", "paper", "beams", "discs"):
        parts = [
            ratios(simulate_cube(seed_of("validation", i, scenario, 0), scenario, imager=imager), networks)
            for i in range(arguments.n)
        ]
        table = vstack([part for part in parts if len(part)])
        show(scenario, table)
        table["scenario"] = scenario
        kept.append(table)
    if arguments.table:
        vstack(kept).write(arguments.table, overwrite=True)


if __name__ == "__main__":
    main()
