"""Galaxies: thick rotating gas discs made of tilted rings, with arms, clumps and a velocity dispersion.

The disc is divided into small cells, each a point with a weight, a position on the sky and a velocity.  Their sum is
the cube of the galaxy; the common velocity dispersion is a convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from napari_almadet.simulation.emission import Emission, broadened, deposit, triple

ATOP = 5  # cells through the thickness, at quantiles of a sech² profile
MOST_CELLS = 700  # cells on a side of the disc, maximum: the largest disc takes a second or two
FACE = 192  # pixels on a side of the face-on map of arms and clumps
REACH = 3.0  # radius of a disc in exponential scale lengths


@dataclass(frozen=True)
class Galaxy:
    """One galaxy: lengths in pixels, velocities in channels, angles in degrees.

    Attributes
    ----------
    x, y, z
        Centre in 0-based pixels, and systemic velocity as a channel.
    radius
        Radius of the disc, `REACH` scale lengths.
    inclination, angle
        0 face-on, 90 edge-on; position angle of the receding side from north through east.
    velocity, turnover
        Asymptotic velocity and turnover radius of the rotation curve.
    curve
        ``(beta, gamma)`` of the multi-parameter curve of Courteau (1997, AJ 114, 2402, eq. 1); None for arctan.
    dispersion
        Velocity dispersion at the edge; twice as large in the centre.
    thickness
        Scale height of the sech² profile.
    hole
        Fraction of the radius inside which the gas density decreases; 0 for an exponential disc.
    warp
        Change of inclination and position angle from 0.5 radii to the edge.
    arms, pitch, contrast, phase
        Number of logarithmic arms, pitch angle, contrast (0 to 1), and start angle.
    clumps
        Fraction of the gas in clumps of 0.02 to 0.08 radii.
    lopsided
        Relative difference of the two halves.
    seed
        Seed of clumps and positions of cells.
    """

    x: float
    y: float
    z: float
    radius: float
    inclination: float
    angle: float
    velocity: float
    turnover: float
    curve: tuple[float, float] | None = None
    dispersion: float = 1.0
    thickness: float = 0.0
    hole: float = 0.0
    warp: tuple[float, float] = (0.0, 0.0)
    arms: int = 0
    pitch: float = 20.0
    contrast: float = 0.0
    phase: float = 0.0
    clumps: float = 0.0
    lopsided: float = 0.0
    seed: int = 0


def rotation_velocity(galaxy: Galaxy, radius: np.ndarray) -> np.ndarray:
    """The rotation curve at radii in pixels, in channels (Courteau 1997, AJ 114, 2402).

    With ``curve`` None, ``2/pi V arctan(r / r_t)``; else ``V (1 + x)^beta / (1 + x^gamma)^(1/gamma)``, x = r_t / r.
    """
    ratio = galaxy.turnover / np.maximum(radius, 1e-3)
    if galaxy.curve is None:
        return galaxy.velocity * 2 / np.pi * np.arctan(1 / ratio)
    beta, gamma = galaxy.curve
    # x^gamma overflows in the centre, where the curve is 0
    return galaxy.velocity * (1 + ratio) ** beta / (1 + np.minimum(ratio, 1e6) ** gamma) ** (1 / gamma)


def draw_galaxy(rng: np.random.Generator, place: tuple[float, float, float], diameter: float, width: float) -> Galaxy:
    """Draw a galaxy of a given size.

    Parameters
    ----------
    place
        Its centre: x, y, channel.
    diameter
        Diameter of the disc along the major axis, in pixels.
    width
        Width of the line between the two velocities of the flat part, in channels.
    """
    radius = diameter / 2
    inclination = float(np.degrees(np.arccos(rng.uniform(0.05, 1))))  # random orientations, except for the last 3 deg
    curve = None if rng.random() < 0.5 else (float(rng.uniform(-0.15, 0.15)), float(rng.uniform(1.0, 5.0)))
    armed = rng.random() < 0.6
    return Galaxy(
        *place,
        radius=radius,
        inclination=inclination,
        angle=float(rng.uniform(0, 360)),
        velocity=float(width / 2 / max(np.sin(np.radians(inclination)), 0.2)),
        turnover=float(radius * np.exp(rng.uniform(np.log(0.03), np.log(0.5)))),
        curve=curve,
        dispersion=float(max(0.5, width * np.exp(rng.uniform(np.log(0.02), np.log(0.15))))),
        thickness=float(radius * rng.uniform(0.02, 0.15)),
        hole=float(rng.uniform(0.1, 0.6)) if rng.random() < 0.4 else 0.0,
        warp=(float(rng.normal(0, 12)), float(rng.normal(0, 20))) if rng.random() < 0.4 else (0.0, 0.0),
        arms=int(rng.integers(1, 5)) if armed else 0,
        pitch=float(rng.uniform(10, 35)) * float(rng.choice([-1, 1])),
        contrast=float(rng.uniform(0.3, 1)) if armed else 0.0,
        phase=float(rng.uniform(0, 2 * np.pi)),
        clumps=float(rng.uniform(0.1, 0.6)) if rng.random() < 0.6 else 0.0,
        lopsided=float(rng.uniform(0, 0.5)) if rng.random() < 0.4 else 0.0,
        seed=int(rng.integers(2**31)),
    )


def galaxy_emission(galaxy: Galaxy, step: float = 0.5) -> Emission:
    """The cube of the galaxy, with a sum of 1.

    Parameters
    ----------
    step
        Side of the cells in pixels; larger if there would be more than `MOST_CELLS` squared of them.
    """
    rng = np.random.default_rng(galaxy.seed)
    n = int(np.clip(np.ceil(2 * galaxy.radius / step), 24, MOST_CELLS))
    side = 2 / n  # of a cell, in radii
    jitter = rng.uniform(-0.5, 0.5, (2, n, n))
    centres = (np.arange(n) + 0.5) * side - 1
    along, across = centres + side * jitter[0], centres[:, None] + side * jitter[1]
    radius = np.hypot(along, across)
    inside = radius < 1
    along, across, radius = along[inside], across[inside], radius[inside]
    weight = surface_density(galaxy, along, across, rng)

    outside = np.clip(radius - 0.5, 0, None) / 0.5  # of the warp, which begins at half the radius
    tilt = np.radians(galaxy.inclination + galaxy.warp[0] * outside)
    angle = np.radians(galaxy.angle + galaxy.warp[1] * outside)
    speed = rotation_velocity(galaxy, radius * galaxy.radius) * (along / np.maximum(radius, 1e-6)) * np.sin(tilt)
    extra = galaxy.dispersion * np.sqrt(np.clip(4 * (1 - radius) ** 2 + 2 * radius * (1 - radius), 0, None))

    layers = np.arctanh(2 * (np.arange(ATOP) + 0.5) / ATOP - 1) * galaxy.thickness / galaxy.radius
    if not galaxy.thickness:
        layers = layers[:1]
    places: tuple[list[np.ndarray], ...] = ([], [], [])
    for height in layers:
        # the minor axis on the sky: contributions of the plane, and of the height above it
        minor = across * np.cos(tilt) - height * np.sin(tilt)
        east = along * np.sin(angle) - minor * np.cos(angle)
        north = along * np.cos(angle) + minor * np.sin(angle)
        places[0].append(speed + extra * rng.standard_normal(len(speed)))
        places[1].append(galaxy.radius * north)
        places[2].append(-galaxy.radius * east)
    z, y, x = (np.concatenate(p) for p in places)
    weights = np.tile(weight, len(layers)) / (weight.sum() * len(layers))
    tail = int(np.ceil(4 * galaxy.dispersion)) + 1
    first, stop = [], []
    for values, centre, margin in ((z, galaxy.z, tail), (y, galaxy.y, 1), (x, galaxy.x, 1)):
        first.append(int(np.floor(values.min() + centre)) - margin)
        stop.append(int(np.ceil(values.max() + centre)) + margin + 1)
    shape = triple(s - f for f, s in zip(first, stop, strict=True))
    points = (z + galaxy.z - first[0], y + galaxy.y - first[1], x + galaxy.x - first[2])
    cube = broadened(deposit(points, weights, shape), galaxy.dispersion)
    return Emission(cube, triple(first), "galaxy")


def surface_density(galaxy: Galaxy, along: np.ndarray, across: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gas per area of the disc at positions in radii, along and perpendicular to the major axis; in any unit."""
    radius, azimuth = np.hypot(along, across), np.arctan2(across, along)
    density = np.exp(-REACH * radius)
    if galaxy.hole:
        density *= 1 - np.exp(-((radius / galaxy.hole) ** 2))
    if galaxy.arms:
        turn = np.log(np.maximum(radius, 0.05)) / np.tan(np.radians(galaxy.pitch))
        wave = 0.5 + 0.5 * np.cos(galaxy.arms * (azimuth - turn) - galaxy.phase)
        density *= 1 - galaxy.contrast + galaxy.contrast * 3.2 * wave**3  # the mean of wave³ is 0.3125
    density *= 1 + galaxy.lopsided * radius * np.cos(azimuth - galaxy.phase)
    if galaxy.clumps:
        spots = clump_map(rng)
        where = [(a + 1) / 2 * (FACE - 1) for a in (across, along)]
        # clumps follow the gas
        clumped = density * ndimage.map_coordinates(spots, where, order=1)
        density = (1 - galaxy.clumps) * density + galaxy.clumps * clumped * density.sum() / max(clumped.sum(), 1e-30)
    return np.maximum(density, 0)


def clump_map(rng: np.random.Generator) -> np.ndarray:
    """30 to 200 round clumps of 0.02 to 0.08 radii, few bright and many faint ones: (FACE, FACE)."""
    spots = np.zeros((4, FACE, FACE))
    n = int(rng.integers(30, 200))
    row, column = rng.integers(0, FACE, (2, n))
    np.add.at(spots, (rng.integers(0, 4, n), row, column), rng.pareto(1.7, n).clip(max=30) + 0.2)
    sizes = np.geomspace(0.02, 0.08, 4) * FACE / 2 / 1.18  # half widths at half maximum to standard deviations
    return sum(ndimage.gaussian_filter(layer, size) * size**2 for layer, size in zip(spots, sizes, strict=True))
