"""The paper's pipeline: no Qt, no napari, no training."""
