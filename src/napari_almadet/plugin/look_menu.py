"""The menu "Look": the spectrum under the pointer, regions of the sky, and candidates from regions."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QMenu

from napari_almadet.inspection.regions import Region
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.look import TOOLS, Look


class LookMenu(QMenu):
    """Menu with the switches and tools of a `Look`."""

    def __init__(self, look: Look):
        super().__init__()
        self.look = look
        self.setToolTipsVisible(True)
        self.follow = existing(self.addAction("Spectrum under the pointer"))
        self.follow.setCheckable(True)
        self.follow.setChecked(look.follow)
        self.follow.setToolTip("Shown with the spectrum of the candidate; click on the sky to keep it")
        self.follow.toggled.connect(partial(setattr, look, "follow"))
        self.addSeparator()
        self.tools = {
            tool: existing(self.addAction(f"Draw a region: {tool}", partial(look.draw, tool))) for tool in TOOLS
        }
        self.whole = existing(self.addAction("The whole field", look.whole_field))
        self.whole.setToolTip("Its summed spectrum, moments and position-velocity cuts, in the panels below")
        self.addSeparator()
        self.chosen = existing(self.addMenu("Show a region"))
        self.candidate = existing(self.addAction("Make the region a candidate", look.make_candidate))
        self.candidate.setToolTip("Measure the box around it like a drawn box")
        self.clear_all = existing(self.addAction("Clear the regions", look.clear))
        self.aboutToShow.connect(self.fill)

    def fill(self) -> None:
        """List the regions and enable what applies."""
        there = self.look.cube is not None
        for action in (*self.tools.values(), self.whole):
            action.setEnabled(there)
        self.chosen.clear()
        for region in self.look.regions:
            action = existing(self.chosen.addAction(region.name, partial(self._show, region)))
            action.setCheckable(True)
            action.setChecked(region is self.look.chosen)
        self.chosen.setEnabled(bool(self.look.regions))
        self.candidate.setEnabled(self.look.chosen is not None)
        self.clear_all.setEnabled(bool(self.look.regions))

    def _show(self, region: Region) -> None:
        """Show a region in place of the selected candidate."""
        self.look.session.select(None)
        self.look.choose(region)
