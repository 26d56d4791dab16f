"""The extent classifier: from the features of a patch of extended emission to the probability that it is real."""

from __future__ import annotations

from napari_almadet.networks.judge import Judge


class ExtentClassifier(Judge):
    """From (batch, features) measures of patches to (batch,) logits: Judge's layers, with weights of its own."""

    def __init__(self, features: int, hidden: int = 48) -> None:
        super().__init__(features, hidden)
