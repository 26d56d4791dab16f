"""napari's theme in the panels: colours of plots, small fonts, buttons that open menus."""

from __future__ import annotations

from dataclasses import dataclass

from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtWidgets import QApplication, QMenu, QPushButton

SCREEN_TO_LETTERS = 72  # minimum height of the screen, in font sizes of the panels; on lower screens texts overlap


def small_size() -> int:
    """Font size in points: one size smaller than napari's, and limited on low screens."""
    return min(get_settings().appearance.font_size - 1, round(screen_height() / SCREEN_TO_LETTERS))


def screen_height() -> int:
    """Height of the screen in pixels."""
    screen = QApplication.primaryScreen()
    assert screen is not None  # Qt has one as soon as there is an application
    return screen.size().height()


def small_font() -> str:
    """A style sheet with this font size."""
    return f"font-size: {small_size()}pt"


def small_print() -> str:
    """A style sheet for panels with many controls: a small font, and rows as low as a line of text.

    It leaves more of a small screen to the plots.  A read-only line edit looks like a label; unlike a label, it does
    not cause a new layout of the window for every text.
    """
    return f"""
        QComboBox, QPushButton {{ {small_font()}; padding: 1px 5px }}
        QLabel, QCheckBox {{ {small_font()} }}
        QLineEdit[readOnly="true"] {{ {small_font()}; background: transparent; border: none }}
    """


@dataclass(frozen=True)
class Colours:
    """Colours as ``#rrggbb``: those of the theme, and five that are distinguishable on its background."""

    text: str
    dim: str
    denoised: str
    fit: str
    line: str
    residual: str
    range: str
    background: str

    @classmethod
    def of(cls, theme_name: str) -> Colours:
        """The colours for a napari theme."""
        theme = get_theme(theme_name)
        own = {
            "dark": ("#5ec8ff", "#ffb45e", "#ff5e7a", "#8fe08f", "#c9a0ff"),
            "light": ("#0067b0", "#b85c00", "#c2183c", "#2b7a2b", "#7a3fc0"),
        }[theme.type]
        return cls(
            theme.text.as_hex(format="long"),
            theme.primary.as_hex(format="long"),
            *own,
            theme.background.as_hex(format="long"),
        )


def menu_button(text: str, tip: str, menu: QMenu) -> QPushButton:
    """A button that opens a menu; the button owns the menu, so that napari's theme applies to it."""
    button = QPushButton(f"{text} ▾")  # Qt's own arrow overlaps the text
    button.setStyleSheet("QPushButton::menu-indicator { image: none; width: 0 }")
    button.setToolTip(tip)
    menu.setParent(button, menu.windowFlags())
    button.setMenu(menu)
    return button


def transparent(colour: str, alpha: int) -> str:
    """A colour ``#rrggbb`` with an opacity of 0 to 255."""
    return f"{colour}{alpha:02x}"
