"""Plain words where typer shows the types and messages of its libraries: in ``--help``, and for wrong values.

Typer 0.20 and later write ``<bool>`` beside a switch that takes no value, ``<list[ecsv|csv]>`` beside an option that
can be repeated, and pydantic's "Value error, ..." or "Input should be ..." for a wrong value.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Callable


def kind_of_value(shown: str) -> str:
    """The value that an option takes, from the type that typer shows.

    Examples
    --------
    >>> [kind_of_value(shown) for shown in ("<bool>", "<list[ecsv|csv]>", "<int range>", "<str>", "<int,int>")]
    ['', '<ecsv|csv>', '<int>', '<text>', '<int> <int>']
    """
    kind = re.sub(r"^list\[(.*)\]$", r"\1", shown.strip("<>"))
    kind = {"bool": "", "str": "text", "Path": "path"}.get(kind, kind.removesuffix(" range"))
    return f"<{kind}>".replace(",", "> <") if kind else ""


def in_plain_words(message: str) -> str:
    """A message about a wrong value.

    Examples
    --------
    >>> in_plain_words("Value error, 'tiff' is not one of 'ecsv', 'csv'.")
    "'tiff' is not one of 'ecsv', 'csv'."
    >>> in_plain_words("Input should be a valid number, unable to parse string as a number")
    'must be a number'
    >>> in_plain_words("Input should be greater than or equal to 1")
    'must be greater than or equal to 1'
    """
    message = message.removeprefix("Value error, ").replace("Input should be ", "must be ")
    return re.sub(r"must be a valid (\w+).*", lambda found: f"must be {article(found[1])} {found[1]}", message)


def article(noun: str) -> str:
    """The indefinite article of a noun."""
    return "an" if noun[0] in "aeiou" else "a"


def reflowed(text: str | None) -> str | None:
    """Paragraphs without the line breaks of the source code, which typer keeps.

    Examples
    --------
    >>> reflowed("one\\ntwo\\n\\nthree")
    'one two\\n\\nthree'
    """
    return None if text is None else re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(text))


class PlainCommand(TyperCommand):
    """A command with plain words."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help, self.epilog = reflowed(self.help), reflowed(self.epilog)

    def get_params(self, ctx: Any) -> list[Any]:
        """The options and arguments, each with the kind of its value."""
        return [with_plain_type(parameter, ctx) for parameter in super().get_params(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        return parsed(super().parse_args, ctx, args)


class PlainGroup(TyperGroup):
    """The program itself, likewise."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options."""
        return [with_plain_type(parameter, ctx) for parameter in super().get_params(ctx)]


def with_plain_type(parameter: Any, ctx: Any) -> Any:
    """An option or argument whose help shows the kind of its value in plain words; older versions of typer do."""
    if hasattr(parameter, "display_type"):
        kind = kind_of_value(parameter.display_type(ctx))
        if parameter.param_type_name == "argument":  # its metavar is its name
            parameter.display_type_rich = lambda ctx: kind
        elif parameter.metavar is None:
            parameter.metavar = kind
    return parameter


def parsed(read: Callable[[Any, list[str]], list[str]], ctx: Any, args: list[str]) -> list[str]:
    """Parse a command line; errors are reported in plain words."""
    try:
        return read(ctx, args)
    except typer.BadParameter as error:
        error.message = in_plain_words(error.message)
        raise
