"""What it takes for the window not to wait."""

from __future__ import annotations

import gc
import sys
import weakref

from napari_almadet.plugin.background import unobtrusive


class Ring:
    def __init__(self):
        self.itself = self


def test_garbage_is_spared_until_the_last_has_left():
    old = Ring()
    seen = weakref.ref(old)
    del old
    with unobtrusive:
        with unobtrusive:
            pass
        gc.collect()
        assert seen() is not None
    gc.collect()
    assert seen() is None


def test_the_interpreter_goes_round_faster_until_the_last_has_left():
    before = sys.getswitchinterval()
    with unobtrusive:
        with unobtrusive:
            pass
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before
