"""What ``import napari_almadet`` offers: described in numpydoc's form, with examples that run."""

from __future__ import annotations

import doctest
import inspect
from functools import cached_property

import pytest
from numpydoc.validate import validate

import napari_almadet

# numpydoc's checks that we do not ask for: types in docstrings (the annotations give them), "See Also", an extended
# summary, examples in every method, and where the first line of a docstring stands.
NOT_ASKED = {"PR04", "SA01", "ES01", "EX01", "GL01", "GL02", "GL03"}
NAMES = [name for name in napari_almadet.__all__ if not name.startswith("__")]


def home(name: str) -> str:
    thing = getattr(napari_almadet, name)
    return f"{thing.__module__}.{thing.__qualname__}"


def members(name: str) -> list[str]:
    """Public methods and properties that a public class defines itself."""
    thing = getattr(napari_almadet, name)
    if not inspect.isclass(thing):
        return []
    kinds = (property, cached_property, classmethod, staticmethod)
    return [
        f"{home(name)}.{member}"
        for member, value in vars(thing).items()
        if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, kinds))
    ]


@pytest.mark.parametrize("path", [home(name) for name in NAMES])
def test_public_names_are_described_in_numpydocs_form(path):
    errors = [f"{code}: {message}" for code, message in validate(path)["errors"] if code not in NOT_ASKED]
    assert not errors


@pytest.mark.parametrize("path", [path for name in NAMES for path in members(name)])
def test_public_methods_are_described_too(path):
    """But what they return may be said in their first line."""
    errors = [f"{code}: {message}" for code, message in validate(path)["errors"] if code not in NOT_ASKED | {"RT01"}]
    assert not errors


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("Error")])
def test_public_names_have_an_example_that_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what an example writes goes there
    thing = getattr(napari_almadet, name)
    examples = doctest.DocTestFinder(recurse=False).find(thing, name, globs={})
    assert any(test.examples for test in examples)
    for test in examples:
        results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test)
        assert not results.failed
