"""Configuration files: options of a command in TOML; options on the command line take precedence."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from napari_almadet.settings import BEAMS

PATHS = ("cubes", "out", "psf", "pb")  # options whose relative paths are relative to the folder of the file
NOT_IN_FILES = ("context", "config", "write_config")
KEYS = {"format": "formats"}  # options with another name on the command line


class ConfigurationError(ValueError):
    """A configuration file that cannot be used; the message names the file and the key."""


@dataclass(frozen=True)
class Option:
    """An option or argument of a command, by its annotation.

    ``kind`` is the type of one value; ``several``: a list of such values; ``default``: None if there is none.
    """

    name: str
    kind: type
    several: bool
    default: Any
    about: OptionInfo | ArgumentInfo

    def wrong(self, value: Any) -> str:
        """Why a value is invalid, as the continuation of "NAME is VALUE"; empty if it is valid."""
        if self.several and not isinstance(value, list):
            return f", but must be a list, such as [{_toml(value)}]"
        for one in value if self.several else [value]:
            if self.kind is bool and not isinstance(one, bool):
                return ", but must be true or false"
            if self.kind is int and (not isinstance(one, int) or isinstance(one, bool)):
                return ", but must be a whole number"
            if self.kind is float and (not isinstance(one, int | float) or isinstance(one, bool)):
                return ", but must be a number"
            if self.kind in (str, Path) and not isinstance(one, str):
                return ", but must be text in quotes"
            if issubclass(self.kind, Enum) and one not in (choices := [member.value for member in self.kind]):
                return f", but must be one of {', '.join(choices)}"
            if self.kind in (int, float) and self.about.min is not None and one < self.about.min:
                return f", but must be at least {self.about.min}"
        return ""


def options_of(command: Callable[..., Any]) -> dict[str, Option]:
    """The options and arguments of a command that a file may contain, by name."""
    hints, parameters = get_type_hints(command, include_extras=True), signature(command).parameters
    found = {}
    for name, hint in hints.items():
        if name in NOT_IN_FILES or get_origin(hint) is not Annotated:
            continue
        kind, about = get_args(hint)[:2]
        inner = [part for part in get_args(kind) if part is not NoneType] if NoneType in get_args(kind) else [kind]
        kind, several = inner[0], get_origin(inner[0]) is list
        default, one = parameters[name].default, get_args(kind)[0] if several else kind
        found[name] = Option(name, one, several, None if default is Parameter.empty else default, about)
    return found


def read_configuration(path: Path, options: Mapping[str, Option]) -> dict[str, Any]:
    """The values in a TOML file, by the names of options.

    A key is an option's name without its dashes (``min-snr`` or ``min_snr``), for the arguments ``cubes``.  An option
    that is a pair of words (``--require-line/--keep-continuum``) has the name of the first and is true or false.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, has an unknown key, or an invalid value.
    """
    try:
        with path.open("rb") as file:
            given = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    values = {}
    for key, value in given.items():
        option = options.get(KEYS.get(key.replace("-", "_"), key.replace("-", "_")))
        if option is None:
            raise ConfigurationError(f"{path}: {key} is not an option; the options are {', '.join(sorted(options))}")
        if wrong := option.wrong(value):
            raise ConfigurationError(f"{path}: {key} is {value!r}{wrong}")
        values[option.name] = _from_folder(option.name, value, path.parent)
    return values


def _from_folder(name: str, value: Any, folder: Path) -> Any:
    """A value with relative paths resolved from a folder."""
    if isinstance(value, list):
        return [_from_folder(name, one, folder) for one in value]
    if name in PATHS or (name == "beam" and value not in BEAMS):
        return str(folder / value)
    if name == "weights":
        network, is_file, file = value.partition("=")
        return f"{network}={folder / file}" if is_file and file.endswith(".safetensors") else value
    return value


def write_configuration(path: Path, options: Mapping[str, Option], values: Mapping[str, Any], version: str) -> None:
    """Write options and arguments as TOML, each below its help text; unset options are comments.

    Parameters
    ----------
    values
        By name.  Paths inside the folder of the file are written relative to it, others in full.
    """
    lines = [f"# almadet detect --config {path.name}", f"# napari-almadet {version}"]
    for name, option in options.items():
        value = values.get(name)
        lines += ["", f"# {' '.join(str(option.about.help or '').split())}"]
        if value is None or value == []:
            lines.append(f"# {name} =")
        else:
            lines.append(f"{name} = {_toml(_to_folder(name, value, path.parent))}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _to_folder(name: str, value: Any, folder: Path) -> Any:
    if isinstance(value, list | tuple):
        return [_to_folder(name, one, folder) for one in value]
    if name in PATHS or (name == "beam" and value not in BEAMS):
        return _relative(Path(value), folder)
    if name == "weights":
        network, is_file, file = value.partition("=")
        return f"{network}={_relative(Path(file), folder)}" if is_file and file.endswith(".safetensors") else value
    return value


def _relative(path: Path, folder: Path) -> str:
    whole, home = path.resolve(), folder.resolve()
    return whole.relative_to(home).as_posix() if whole.is_relative_to(home) else str(whole)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, int | float):
        return repr(value)
    text = json.dumps(str(value.value if isinstance(value, Enum) else value), ensure_ascii=False)
    return text.replace("\x7f", "\\u007F")  # TOML strings are like JSON strings, except for this character


def without_effect(context: typer.Context, options: Mapping[str, Option], preset: str) -> list[str]:
    """A sentence for each option that was given and has no effect with a preset."""
    idle = {"paper": ("psf", "beam", "memory", "absorption"), "almadet": ("min_snr",)}[preset]
    values = context.params
    names = [f"--{name.replace('_', '-')}" for name in idle if values[name] != options[name].default]
    others = ("blobs_finder", "deep_gru") if preset == "almadet" else ("source_finder", "line_finder", "judge")
    names += [f"--weights {text}" for text in values["weights"] or [] if text.partition("=")[0] in others]
    return [f"{name} has no effect with the preset {preset}." for name in names]
