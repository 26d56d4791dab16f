"""The command ``almadet``."""

from napari_almadet.cli.app import app

__all__ = ["app"]
