"""What a detection run can be told; the widget, the command line and the tests all build this."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Settings:
    """Settings of :func:`napari_almadet.detect`; the defaults are the paper's where it gives them.

    Attributes
    ----------
    threshold
        Level at which the probability map is cut into blobs (paper, step 4).
    peak_height
        Least height of a peak in a denoised spectrum, which runs from 0 to 1 (step 7).
    require_line
        Drop candidates without an emission peak (the paper's rule).  Switch off to keep
        sources that show in the continuum only.
    min_snr
        Least pixel signal-to-noise a candidate must show in its focused or in the stacked
        image (step 9), see :func:`napari_almadet.pipeline.focus.reject`.
    window, overlap
        Side of the square field Blobs Finder sees, and by how much neighbouring fields
        overlap in cubes larger than that, in pixels.
    crop
        Side of a focused image in pixels (step 8).
    batch_size
        Windows or spectra that go through a network at a time.
    device
        ``"auto"`` (CUDA, then Apple MPS, then CPU), ``"cpu"``, ``"cuda"`` or ``"mps"``.
    blobs_finder, deep_gru
        Name of shipped weights, or path of a ``.safetensors`` file.

    Raises
    ------
    ValueError
        If a value makes no sense; the message says which and what it may be.
    """

    preset: str = "almadet"
    threshold: float = 0.1
    peak_height: float = 0.1
    require_line: bool = True
    min_snr: float = 5.0
    window: int = 256
    overlap: int = 64
    crop: int = 64
    batch_size: int = 16
    device: str = "auto"
    blobs_finder: str = "blobs_finder"
    deep_gru: str = "deep_gru"

    def __post_init__(self) -> None:
        for name in ("threshold", "peak_height"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must lie between 0 and 1")
        if not self.min_snr >= 0:
            raise ValueError(f"min_snr is {self.min_snr}, but must not be negative")
        for name in ("window", "crop", "batch_size"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if not 0 <= self.overlap < self.window:
            raise ValueError(f"overlap is {self.overlap}, but must lie between 0 and window - 1 = {self.window - 1}")

    def as_dict(self) -> dict:
        """The settings as plain values, for JSON."""
        return asdict(self)
