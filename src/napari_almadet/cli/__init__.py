"""The command ``almadet``."""

from napari_almadet.cli.starting import quiet_interrupts
from napari_almadet.loading import loading

with quiet_interrupts(), loading():
    from napari_almadet.cli.app import app

__all__ = ["app"]
