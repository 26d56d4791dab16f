"""Lines in absorption: how many are found, how many are false, and whether their numbers are true.

    python benchmarks/absorption.py                      # 20 cubes with absorption, 20 without
    python benchmarks/absorption.py --cubes 100 --without 200 --kernel 0.25 0.5 0.25
    python benchmarks/absorption.py --scenario 10        # cubes of the simulated scenario, with and without absorption

The cubes are analytic, as those of benchmarks/accuracy.py: three continuum sources of an S/N of 50 to 1500 in the
band-averaged image.  With absorption, each has a line of 5 to 50 % depth and 2 to 24 channels FWHM before it; without,
some have a line in emission instead, and emission beside them.  Completeness counts lines of an S/N of 6 or more,
matched to their own profile, as if the continuum were known; and those that have it although level and slope of the
continuum are measured in the same spectrum, which costs a line of a quarter of the band a third of its S/N.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace

import numpy as np
from accuracy import CHANNEL, KINDS, RMS, Kind, covariance, cube_of, gaussian, noise, places

from napari_almadet import Settings, detect
from napari_almadet.detection import load_networks
from napari_almadet.evaluation.matching import Rate

KIND = replace(KINDS["compact"], side=128, channels=96, sources=3)
CONTINUUM = (50.0, 1500.0)  # S/N in the band-averaged image
DEPTH = (0.05, 0.5)
WIDTH = (2.0, 24.0)  # channels
LEAST = 6.0  # S/N of a line that is to be found


@dataclass
class Score:
    """What is counted, and pulls by quantity."""

    found: int = 0
    lines: int = 0
    found_clear: int = 0
    clear: int = 0
    true: int = 0
    false: int = 0
    cubes_with_false: int = 0
    lost: int = 0
    sources: int = 0
    pulls: dict[str, list[float]] = field(default_factory=dict)


def drawn(kind: Kind, seed: int, absorbed: bool) -> tuple[np.ndarray, list[dict]]:
    """Planes, and what is true of the continuum sources."""
    rng = np.random.default_rng([seed, 2026])
    beam, channel = covariance(*kind.beam), np.arange(kind.channels)
    data, sources = noise(rng, kind, beam) * RMS, []
    fwhm = float(np.linalg.det(beam) ** 0.25)
    shared = float(np.correlate(kind.kernel, kind.kernel)[0]) ** -0.5 * sum(kind.kernel)  # of the noise of a sum
    for x, y, _ in places(rng, kind, fwhm):
        level = float(np.exp(rng.uniform(*np.log(CONTINUUM)))) * RMS / np.sqrt(kind.channels) * shared
        spectrum, source = np.full(kind.channels, level), {"x": x, "y": y, "f_cont": level, "snr": 0.0}
        width = float(np.exp(rng.uniform(*np.log(WIDTH))))
        z = float(rng.uniform(width, kind.channels - width))
        line = np.exp(-4 * np.log(2) * ((channel - z) / width) ** 2)
        if absorbed:
            depth = float(rng.uniform(*DEPTH))
            tau = -np.log1p(-depth)
            spectrum = level * np.exp(-tau * line)
            dip = level - spectrum
            source |= {"z": z, "depth": depth, "tau": tau, "tau_int": tau * line.sum() * CHANNEL}
            flat = np.linalg.qr(np.stack([np.ones(kind.channels), channel - channel.mean()], axis=1))[0]
            left = dip - flat @ (flat.T @ dip)
            source["share"] = float(np.sqrt((left**2).sum() / (dip**2).sum()))
            source["snr"] = float(np.sqrt((dip**2).sum()) / RMS / (shared if width > 4 else 1))
        elif rng.uniform() < 0.5:
            spectrum = level + line * RMS * float(rng.uniform(3, 60))
        data += spectrum[:, None, None] * gaussian(kind.side, x, y, beam)
        if not absorbed and rng.uniform() < 0.5:  # a neighbour with a bright line
            away, angle = rng.uniform(1.5, 3) * fwhm, rng.uniform(0, 2 * np.pi)
            beside = gaussian(kind.side, x + away * np.cos(angle), y + away * np.sin(angle), beam)
            data += (line * RMS * float(rng.uniform(5, 60)))[:, None, None] * beside
        sources.append(source)
    return data.astype(np.float32), sources


def scored(kind: Kind, seed: int, absorbed: bool, networks: object, score: Score) -> None:
    """One cube."""
    data, sources = drawn(kind, seed, absorbed)
    kept = detect(cube_of(data, kind), Settings(device="cpu"), networks=networks).kept
    reach, claimed = float(np.linalg.det(covariance(*kind.beam)) ** 0.25), set()
    before = score.false
    for source in sources:
        near = [c for c in kept if np.hypot(c.x - source["x"], c.y - source["y"]) < reach]
        score.sources += 1
        score.lost += not near
        if not absorbed:
            continue
        score.lines += source["snr"] >= LEAST
        score.clear += source["snr"] * source["share"] >= LEAST
        before_this = score.true
        for c in near:
            if np.isfinite(c.abs_snr) and abs(c.abs_z - source["z"]) < max(c.abs_w50 / CHANNEL, 2):
                claimed.add(c.id)
                score.true += 1
                score.found += source["snr"] >= LEAST
                score.found_clear += source["snr"] * source["share"] >= LEAST
                names = {"z": (c.abs_z, c.err_abs_z), "depth": (c.abs_depth, c.err_abs_depth)}
                names |= {"tau": (c.abs_tau, c.err_abs_tau), "tau_int": (c.abs_tau_int, c.err_abs_tau_int)}
                names["f_cont"] = (c.f_cont, c.err_f_cont)
                for name, (value, error) in names.items():
                    score.pulls.setdefault(name, []).append((value - source[name]) / error)
                break
        if source["snr"] >= LEAST and score.true == before_this:
            what = [(c.kind, round(c.abs_snr, 1), round(c.abs_z, 1)) for c in near]
            print(
                f"  missed: cube {seed}, S/N {source['snr']:.1f}, z {source['z']:.1f}, w {width_of(source):.1f}: {what}"
            )
    false = [c for c in kept if np.isfinite(c.abs_snr) and c.id not in claimed]
    score.false += len(false)
    score.cubes_with_false += score.false > before
    for c in false:
        print(
            f"  false: cube {seed}, S/N {c.abs_snr:.1f}, z {c.abs_z:.1f}, depth {c.abs_depth:.3f}, w50 {c.abs_w50:.0f}"
        )


def width_of(source: dict) -> float:
    """FWHM of a line's optical depth in channels."""
    return source["tau_int"] / CHANNEL / source["tau"] / 1.0645


def simulated(count: int, networks: object) -> None:
    """Cubes of the scenarios `absorption` and `bright`, by their own truth."""
    from napari_almadet.simulation.dataset import cube_of as simulated_cube
    from napari_almadet.simulation.dataset import simulate_cube
    from napari_almadet.simulation.observe import Observation

    seen = Observation(size=160, n_channels=96, duration=900, integration=60)
    for scenario in ("absorption", "bright"):
        found = lines = true = false = lost = 0
        for seed in range(count):
            made = simulate_cube(7000 + seed, scenario, seen)
            kept = detect(simulated_cube(made, f"{scenario}-{seed}"), Settings(device="cpu"), networks=networks).kept
            claimed = set()
            for row in made.truth:
                x, y = (float(getattr(row[axis], "value", row[axis])) for axis in "xy")
                near = [c for c in kept if np.hypot(c.x - x, c.y - y) < 6]
                if scenario == "absorption" and row["kind"] == "absorption":
                    lost += not near
                    lines += row["snr_line"] >= LEAST
                    hit = [
                        c for c in near if np.isfinite(c.abs_snr) and row["z_min"] - 2 <= c.abs_z <= row["z_max"] + 2
                    ]
                    claimed |= {c.id for c in hit}
                    true += bool(hit)
                    found += bool(hit) and row["snr_line"] >= LEAST
                    if row["snr_line"] >= LEAST and not hit:
                        what = [(c.kind, round(c.x, 1), round(c.y, 1), c.abs_snr) for c in near]
                        print(f"  missed: cube {seed}, S/N {row['snr_line']:.1f}, stack {row['snr_stack']:.0f}: {what}")
            wrong = [c for c in kept if np.isfinite(c.abs_snr) and c.id not in claimed]
            false += len(wrong)
            for c in wrong:
                print(f"  false: cube {seed}, S/N {c.abs_snr:.1f} at {c.x:.0f} {c.y:.0f}, depth {c.abs_depth:.2f}")
        print(f"{scenario}: {found} of {lines} lines over S/N {LEAST:g} found, {true} true, {false} false; {lost} lost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cubes", type=int, default=20)
    parser.add_argument("--without", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kernel", type=float, nargs="+", default=[1.0], help="that the channels' noise is smoothed by"
    )
    parser.add_argument("--scenario", type=int, default=0, help="so many simulated cubes of each scenario instead")
    options = parser.parse_args()
    networks = load_networks(Settings(device="cpu"))
    if options.scenario:
        simulated(options.scenario, networks)
        return
    kind = replace(KIND, kernel=tuple(options.kernel))
    score, without = Score(), Score()
    for number in range(options.cubes):
        scored(kind, options.seed + number, True, networks, score)
    for number in range(options.without):
        scored(kind, options.seed + 100_000 + number, False, networks, without)
    print(f"with absorption: {score.sources} continuum sources, {score.lost} lost")
    print(f"  completeness over S/N {LEAST:g}: {Rate(score.found, score.lines)}")
    print(f"  where the S/N is {LEAST:g} with the continuum measured in the same spectrum: ", end="")
    print(Rate(score.found_clear, score.clear))
    print(f"  purity: {Rate(score.true, score.true + score.false)}")
    for name, values in score.pulls.items():
        pull = np.array(values)[np.isfinite(values)]
        spread = 1.4826 * np.median(np.abs(pull - np.median(pull)))
        print(f"  {name:8} pull {np.median(pull):+.2f}, spread {spread:.2f}  ({len(pull)})")
    print(f"without: {without.sources} continuum sources, {without.lost} lost")
    print(f"  lines reported in {without.cubes_with_false} of {options.without} cubes")


if __name__ == "__main__":
    main()
