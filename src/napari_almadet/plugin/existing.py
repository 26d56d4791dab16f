"""Values that exist although their type allows None."""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value")


def existing(value: Value | None) -> Value:
    """The value itself, which is not None.

    Two kinds of types allow None where there is none: according to PyQt's stubs, every method that returns a pointer in
    C++ may return None, also one that creates what it returns, such as ``QMenu.addAction``; and the layer, cube or
    candidate of a panel is None until there is one, also in methods that are called only then.

    Raises
    ------
    AssertionError
        If it is None, which is an error in the program.
    """
    assert value is not None
    return value
