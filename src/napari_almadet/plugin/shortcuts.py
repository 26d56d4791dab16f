"""Keyboard shortcuts of the window: they work on the canvas and in the table of candidates."""

from __future__ import annotations

# Method of the session: (napari's name of the key, text shown).  None of them is used by napari itself on any layer:
# for example, P draws a polygon if a Shapes layer is active, and A selects all its shapes.
KEYS = {
    "next": ("N", "N"),
    "previous": ("Shift-N", "Shift+N"),
    "accept": ("K", "K"),
    "reject": ("J", "J"),
    "clear_verdict": ("U", "U"),
    "undo": ("Control-Z", "Ctrl+Z"),
}
