"""SoFiA-2 as a finder, with a program that stands in for it: what it is given, and what is made of its answers."""

from __future__ import annotations

import shutil
import stat
import sys

import numpy as np
import pytest

from napari_almadet import Cube
from napari_almadet.evaluation.finders import FINDERS, Field
from napari_almadet.evaluation.run import Classical
from napari_almadet.evaluation.sofia import program_version, search, settings_of

STAND_IN = '''#!{python}
"""Lists the voxels over the threshold as one source; without a file it prints its version, as SoFiA-2 does."""
import sys
from pathlib import Path
import numpy as np
from astropy.io import fits
from astropy.table import Table
if len(sys.argv) < 2:
    print("  Version:  2.5.1 (01-Jan-2022)")
    sys.exit(7)
par = dict(line.split(" = ") for line in Path(sys.argv[1]).read_text().split("\\n") if line)
if {fails!r} and par["reliability.enable"] == "true" or {always!r}:
    print("\\x1b[31mERROR: " + ({fails!r} or {always!r}) + "\\x1b[0m")
    sys.exit(1)
data = fits.getdata(par["input.data"])
mask = np.nan_to_num(data) > float(par["scfind.threshold"])
if not mask.any():
    sys.exit(8)
row = {{"id": 1, "w50": 4.5, "rel": 0.97}}
for axis, at in zip("zyx", np.nonzero(mask)):
    row |= {{axis: at.mean(), axis + "_min": at.min(), axis + "_max": at.max()}}
base = Path(par["output.directory"]) / par["output.filename"]
Table(rows=[row]).write(f"{{base}}_cat.xml", format="votable")
fits.writeto(f"{{base}}_mask.fits", mask.astype(np.int32))
'''

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script with a first line")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Puts the stand-in on the PATH."""

    def install(fails="", always=""):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        file = folder / "sofia"
        file.write_text(STAND_IN.format(python=sys.executable, fails=fails, always=always))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder))

    install()
    return install


def field(height=40.0, channels=(10, 15), seed=1):
    """Noise of 2 Jy/beam, and a source at (40, 30)."""
    cube = np.random.default_rng(seed).normal(0, 2, (24, 64, 72))
    y, x = np.indices(cube.shape[1:])
    cube[slice(*channels)] += height * np.exp(-4 * np.log(2) * ((y - 30) ** 2 + (x - 40) ** 2) / 6**2)
    return Field(Cube.from_array(cube.astype(np.float32)))


def test_a_source_of_sofia_has_its_place_line_mask_and_the_box_of_the_others(installed):
    (source,) = FINDERS["sofia"].find(field(), threshold=6.0)
    assert (source.x, source.y, source.z) == pytest.approx((40, 30, 12), abs=0.3)
    assert (source.kind, source.channels, source.fwhm) == ("line", (10, 15), 4.5)
    assert np.isnan(source.prob)
    assert source.score == pytest.approx(40 / 2 * np.sqrt(5), rel=0.3)  # of the sum over its channels
    box = source.box  # a Gaussian of FWHM 6 falls to a tenth 5.5 pixels from its centre
    assert (box.y0, box.y1, box.x0, box.x1) == pytest.approx((25, 36, 35, 46), abs=1)
    origin, own = source.mask
    assert origin[0] == 10 and own.shape[0] == 5 and own.any() and not own.all()
    assert FINDERS["sofia"].find(field(), threshold=6.0, reliability=0.9)[0].prob == 0.97


def test_what_fills_the_band_is_continuum(installed):
    (source,) = FINDERS["sofia"].find(field(channels=(2, 22)), threshold=6.0)
    assert (source.kind, source.channels) == ("continuum", None)


def test_nothing_found_is_no_failure_and_a_failure_is_none(installed):
    assert FINDERS["sofia"].find(field(), threshold=1000.0) == []
    installed(always="Failed to read FITS file.")
    with pytest.raises(RuntimeError, match="SoFiA-2 ended with status 1: Failed to read FITS file"):
        FINDERS["sofia"].find(field(), threshold=6.0)


def test_without_negative_detections_nothing_is_unreliable(installed):
    installed(fails="No negative sources found. Cannot proceed.")
    (source,) = FINDERS["sofia"].find(field(), threshold=6.0, reliability=0.9)
    assert source.channels == (10, 15)


def test_results_say_with_which_version_they_were_made(installed, monkeypatch):
    assert program_version() == "2.5.1"
    assert Classical("sofia").about()["SoFiA-2"] == "2.5.1"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="no program sofia on the PATH"):
        Classical("sofia").about()
    with pytest.raises(FileNotFoundError, match="no program sofia on the PATH"):
        FINDERS["sofia"].find(field())


def test_kernels_follow_the_beam_and_the_band(tmp_path):
    settings = settings_of(tmp_path, 8.2, 32, 4.5, 0.0, 63)
    assert (settings["scfind.kernelsXY"], settings["scfind.kernelsZ"]) == ("0, 8", "0, 3, 7, 15, 31")
    assert settings["scfind.threshold"] == 4.5 and settings["reliability.enable"] == "false"
    short = settings_of(tmp_path, 8.2, 32, 4.5, 0.9, 15)
    assert (short["reliability.threshold"], short["scfind.kernelsZ"]) == (0.9, "0, 3, 7, 15")


@pytest.mark.skipif(shutil.which("sofia") is None, reason="SoFiA-2 is not installed")
def test_sofia_itself_finds_the_source(tmp_path):
    table = search(field().normalised(), 6.0, 6.0, 0.0, 63, tmp_path)
    assert len(table) == 1
    assert (table["x"][0], table["y"][0], table["z"][0]) == pytest.approx((40, 30, 12), abs=0.5)
