"""Loading of libraries without garbage collection, and without parts of them that a search does not use.

Nearly nothing that an import makes is garbage, but Python looks for it after every few hundred new objects, and again
several times when the program ends.  With torch and astropy loaded, that is a fifth of the processor time of a short
command.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

# Parts of libraries that these import themselves, and that no search uses: what the shapes of results will be, which
# torch computes when it compiles a program (a third of the time that importing torch takes), and numpy's Fortran
SPARED = ("torch._meta_registrations", "numpy.f2py")
_process = {"ours": False}  # whether the process does nothing but run this package: the command and its workers


def exempt_at_exit() -> None:
    """Declare that this process runs this package only, so that :func:`loading` may exempt objects from collection.

    Not for processes of others, such as napari or a notebook: objects of theirs that are garbage at that moment would
    never be freed.
    """
    if not _process["ours"]:
        _process["ours"] = True
        atexit.register(gc.freeze)  # what is in memory at the end need not be searched for garbage


@contextmanager
def loading() -> Iterator[None]:
    """Context in which libraries are imported without garbage collection.

    In the command and its workers, the objects that exist afterwards, the modules, are never searched for garbage
    again.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _process["ours"]:
            gc.freeze()
        if collecting:
            gc.enable()


def spare_imports() -> None:
    """In a process of our own that searches cubes, execute :data:`SPARED` only when something in them is asked for.

    Programs cannot be compiled with such a torch.
    """
    if _process["ours"] and not any(isinstance(finder, _Sparing) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Sparing())


class _Sparing(MetaPathFinder):
    """Finds modules that are to be spared."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in SPARED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Postponed(spec.loader)
        return spec


class _Postponed(Loader):
    """Loads a module when something in it is asked for, with the loader that it would have had."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader
        module.__class__ = _Spared


class _Spared(ModuleType):
    """A module that has not been executed yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import itself asks for these
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)
