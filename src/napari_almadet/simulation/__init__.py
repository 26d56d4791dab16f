"""Simulated ALMA observations: sky -> visibilities -> dirty cube."""
