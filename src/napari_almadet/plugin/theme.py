"""Colours that the plots take from napari's theme."""

from __future__ import annotations

from dataclasses import dataclass

from napari.utils.theme import get_theme

# A line of text to read, select and copy.  Unlike a label it does not have the window laid out anew for every text.
QUIET_LINE = "QLineEdit { background: transparent; border: none; font-size: 8pt }"


@dataclass(frozen=True)
class Colours:
    """Colours as ``#rrggbb``: those of the theme, and five that are told apart on its background."""

    text: str
    dim: str
    denoised: str
    fit: str
    line: str
    residual: str
    range: str

    @classmethod
    def of(cls, theme_name: str) -> Colours:
        """The colours that go with a napari theme."""
        theme = get_theme(theme_name)
        own = {
            "dark": ("#5ec8ff", "#ffb45e", "#ff5e7a", "#8fe08f", "#c9a0ff"),
            "light": ("#0067b0", "#b85c00", "#c2183c", "#2b7a2b", "#7a3fc0"),
        }[theme.type]
        return cls(theme.text.as_hex(format="long"), theme.primary.as_hex(format="long"), *own)


def transparent(colour: str, alpha: int) -> str:
    """A colour ``#rrggbb`` with an opacity of 0 to 255."""
    return f"{colour}{alpha:02x}"
