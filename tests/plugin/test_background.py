"""What it takes for the window not to wait."""

from __future__ import annotations

import gc
import weakref

from napari_almadet.plugin.background import sparing_garbage


class Ring:
    def __init__(self):
        self.itself = self


def test_garbage_is_spared_for_a_while_only():
    old = Ring()
    seen = weakref.ref(old)
    del old
    with sparing_garbage():
        gc.collect()
        assert seen() is not None
    gc.collect()
    assert seen() is None
