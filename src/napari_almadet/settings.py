"""The settings of a detection run; the widget, the command line and the tests all build this."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# Defaults that depend on the preset: the paper's own (its section 2.3), or chosen on validation cubes.
PRESETS = {
    "almadet": {"threshold": 0.75, "require_line": False},
    "paper": {"threshold": 0.1, "require_line": True},
}

OF_PRESET: Any = None  # stands for the preset's own value until a Settings is made


BEAMS = ("auto", "dirty", "clean")
ABSORPTION = ("auto", "on", "off")


@dataclass(frozen=True)
class Settings:
    """Settings of :func:`napari_almadet.detect`.

    Parameters
    ----------
    preset
        ``"almadet"``: the search of the noise-normalised (S/N) cube, :mod:`napari_almadet.search.pipeline`.
        ``"paper"``: the two networks and the rules as published.
    threshold
        With ``almadet``, the minimum source probability to keep a candidate (0.75).  With ``paper``, the
        threshold for segmenting the probability map (step 4; 0.1).
    require_line
        Drop candidates without an emission line, as in the paper.  By default on with ``paper``
        and off with ``almadet``.
    psf
        ``almadet`` only: path of a FITS image of the dirty beam, as imaging programs write it;
        without it the beam may be estimated from the cube, see ``beam``.
    beam
        ``almadet`` only: whether the cube is dirty, and which dirty beam it has.  ``"auto"``: decided from the cube,
        see :mod:`napari_almadet.search.beam_decision`; ``"dirty"``: dirty, and the beam is estimated; ``"clean"``:
        not dirty; or the path of a dirty beam, as for ``psf``.
    primary_beam
        Path of an image of the primary beam, for corrected fluxes, and for the noise where the cube is already
        corrected, see :func:`napari_almadet.cube.reading.read_primary_beam`.
    flag_channels
        Flag bad channels, see :func:`napari_almadet.cube.bad_channels.bad_channels`.
    peak_height
        ``paper`` only: minimum height of a peak in a denoised spectrum, which is between 0 and 1 (step 7).
    min_snr
        ``paper`` only: minimum pixel signal-to-noise of a candidate in its line-integrated or in the band-averaged
        image (step 9), see :func:`napari_almadet.measure.focus.reject`; the paper gives no number, the authors' scripts
        have 6.
    window, overlap
        ``paper`` only: side of the square window of Blobs Finder, and overlap of neighbouring windows
        in larger fields, in pixels.
    reliability
        ``almadet`` only: also search the inverted cube, to estimate the reliability ``rel`` of candidates; doubles the
        run time.  With the paper's networks this is not possible, because each field is scaled to its own range, which
        is different in the inverted cube.
    absorption
        ``almadet`` only: whether lines in absorption are looked for in the spectra of sources with continuum.
        ``"auto"``: only if complete absorption of the continuum would have an S/N of 6; ``"on"``: in all sources with
        detected continuum; ``"off"``: never.
    crop
        Side of a line-integrated image in pixels (step 8).
    batch_size
        Number of windows or spectra passed through a network at a time.
    memory
        ``almadet`` only: memory limit in GB (1e9 bytes); larger fields are searched in windows.  On a
        cluster: for each worker.
    device
        ``"auto"`` (CUDA, then Apple MPS, then CPU), ``"cpu"``, ``"cuda"`` or ``"mps"``.
    source_finder, line_finder, judge, extent_classifier
        Weights of the networks of ``almadet``: name of shipped weights, or path of a ``.safetensors`` file.
    blobs_finder, deep_gru
        The same for ``paper``.

    Raises
    ------
    ValueError
        If a value is invalid; the message gives the allowed values.

    Examples
    --------
    >>> from napari_almadet import Settings
    >>> Settings().threshold
    0.75
    >>> Settings(preset="paper").threshold
    0.1
    >>> Settings(threshold=2)
    Traceback (most recent call last):
        ...
    ValueError: threshold is 2, but must lie between 0 and 1
    """

    preset: str = "almadet"
    threshold: float = OF_PRESET
    require_line: bool = OF_PRESET
    psf: str | None = None
    beam: str = "auto"
    primary_beam: str | None = None
    flag_channels: bool = True
    peak_height: float = 0.1
    min_snr: float = 6.0
    window: int = 256
    overlap: int = 64
    reliability: bool = False
    absorption: str = "auto"
    crop: int = 64
    batch_size: int = 16
    memory: float = 4.0
    device: str = "auto"
    source_finder: str = "source_finder"
    line_finder: str = "line_finder"
    judge: str = "judge"
    extent_classifier: str = "extent_classifier"
    blobs_finder: str = "blobs_finder"
    deep_gru: str = "deep_gru"

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}, but must be one of {', '.join(PRESETS)}")
        for name, value in PRESETS[self.preset].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)  # frozen for everybody else
        for name in ("threshold", "peak_height"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must lie between 0 and 1")
        if not self.beam:
            raise ValueError(f"beam is empty, but must be one of {', '.join(BEAMS)} or the path of a dirty beam")
        if self.psf and self.beam not in ("auto", "dirty", self.psf):
            raise ValueError(f"psf is {self.psf} and beam is {self.beam}: give one dirty beam, or none")
        if not self.min_snr >= 0:
            raise ValueError(f"min_snr is {self.min_snr}, but must not be negative")
        if self.absorption not in ABSORPTION:
            raise ValueError(f"absorption is {self.absorption!r}, but must be one of {', '.join(ABSORPTION)}")
        if self.reliability and self.preset != "almadet":
            raise ValueError("reliability is available with the preset almadet only")
        if not self.memory > 0:
            raise ValueError(f"memory is {self.memory} GB, but must be greater than 0")
        for name in ("window", "crop", "batch_size"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if not 0 <= self.overlap < self.window:
            raise ValueError(f"overlap is {self.overlap}, but must lie between 0 and window - 1 = {self.window - 1}")

    @property
    def psf_path(self) -> str | None:
        """Path of the dirty beam, from ``psf`` or ``beam``; None if neither gives one."""
        return self.psf or (None if self.beam in BEAMS else self.beam)

    @property
    def beam_setting(self) -> str:
        """One of :data:`BEAMS`, or the path of the dirty beam."""
        return self.psf_path or self.beam

    def as_dict(self) -> dict:
        """The settings as plain values, for JSON."""
        return asdict(self)
