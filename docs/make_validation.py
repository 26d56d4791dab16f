"""Put the results of an evaluation into ``validation.md``: tables between its marks, pictures into ``images``.

Usage: ``python docs/make_validation.py OUT``, where ``OUT`` is the folder of ``almadet evaluate``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from astropy.table import Table
from PIL import Image

from napari_almadet.evaluation.score_tables import markdown, replace_generated

DOCS = Path(__file__).parent


def copy_picture(path: Path) -> str:
    """Copy a picture to the documentation's, as a small PNG of 256 colours; returns the link to it."""
    link = f"images/validation-{path.name}"
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(DOCS / link, optimize=True)
    return link


def main(out: Path) -> None:
    """Make the page."""
    scores = Table.read(out / "scores.ecsv")
    for old in (DOCS / "images").glob("validation-*.png"):
        old.unlink()
    pictures = {path.stem: copy_picture(path) for path in sorted(out.glob("*.png"))}
    replace_generated(DOCS / "validation.md", markdown(scores, pictures))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
