"""What `almadet detect` writes when it is asked for more, and how else it can be told what to do."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from napari_almadet import detection as pipeline
from napari_almadet.cli import app as cli
from napari_almadet.paper.pipeline import Networks


@pytest.fixture
def almadet(monkeypatch):
    """Run a command with networks that take what is bright for what is there."""
    simple = Networks(lambda batch: batch, lambda batch: (batch / 10).clamp(0, 1))
    monkeypatch.setattr(pipeline, "load_networks", lambda settings: simple)
    monkeypatch.setenv("COLUMNS", "150")
    runner = CliRunner()
    return lambda *arguments: runner.invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def cube(tmp_path):
    """Write a cube with a bright source and give its path."""

    def write(name="field.fits", height=100.0):
        header = fits.Header()
        for i, (ctype, value, step, unit) in enumerate(
            [("RA---SIN", 60, -1e-4, "deg"), ("DEC--SIN", -35, 1e-4, "deg"), ("FREQ", 230e9, 1e7, "Hz")], start=1
        ):
            header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"] = ctype, value, step
            header[f"CRPIX{i}"], header[f"CUNIT{i}"] = 20, unit
        header["RESTFRQ"], header["BUNIT"] = 230.538e9, "K"
        z, y, x = np.ogrid[:64, :40, :50]
        source = np.exp(-(((z - 30) / 3) ** 2) - ((y - 20) / 3) ** 2 - ((x - 25) / 3) ** 2)
        planes = np.random.default_rng(1).normal(size=(64, 40, 50)) + height * source
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        fits.writeto(path, planes.astype(np.float32), header)
        return path

    return write


def test_products_are_written_also_of_what_was_searched_before(almadet, cube, tmp_path):
    arguments = ["detect", cube(), "-o", tmp_path / "out", "--preset", "paper", "--threshold", 0.5]
    assert almadet(*arguments).exit_code == 0
    assert not (tmp_path / "out" / "field" / "field_mom0.fits").exists()
    result = almadet(*arguments, "--products")
    assert result.exit_code == 0 and "searched before" in result.output
    assert fits.getdata(tmp_path / "out" / "field" / "field_mom0.fits").max() > 0
    product = tmp_path / "out" / "field" / "field_cubelets" / "field_1_mom0.fits"
    written = product.stat().st_mtime_ns
    assert almadet(*arguments, "--products").exit_code == 0
    assert product.stat().st_mtime_ns == written  # they are there
