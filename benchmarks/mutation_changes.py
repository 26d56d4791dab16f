"""The changes that `mutation.py` tries: numbers that are doubled and halved, and rules that are removed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

CONSTANT, NUMBER, RULE = "constant", "number", "rule"
KINDS = {
    CONSTANT: "numbers that have a name, in a module or as the default of a field, doubled and halved",
    NUMBER: "numbers without a name that something is compared with, doubled and halved",
    RULE: "an `if` that never applies, a filter that lets everything pass, an operand of `and` or `or` left out",
}


@dataclass(frozen=True)
class Mutant:
    """One change: the text between two places of a file is replaced by another."""

    path: str  # below the package, as search/decisions.py
    line: int  # counted from 1
    start: int  # bytes from the beginning of the file
    end: int
    kind: str
    place: str  # the constant, or the function
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.what}"

    @cached_property
    def what(self) -> str:
        """The change without its line, which moves when a file is edited."""
        return f"{self.place}: {self.old} -> {self.new}"

    def applied(self, source: bytes) -> bytes:
        """The file with the change."""
        return source[: self.start] + self.new.encode() + source[self.end :]


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """All changes of a file, in its order."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]

    def mutant(kind: str, node: ast.expr, new: str, name: str = "") -> Mutant:
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        old = " ".join(source[start:end].decode().split())
        around = (each.name for each in functions if each.lineno <= node.lineno <= each.end_lineno)
        return Mutant(path, node.lineno, start, end, kind, name or ".".join(around) or "module", old, new)

    found = [
        mutant(CONSTANT, node, changed, name)
        for name, value in constants(tree)
        for node in numbers(value)
        for changed in scaled(node.value)
    ]
    for node in rules(tree):
        if isinstance(node, ast.Compare):
            chosen = [number for number in numbers(node) if is_threshold(number.value)]
            found += [mutant(NUMBER, number, other) for number in chosen for other in scaled(number.value)]
        elif isinstance(node, ast.If | ast.IfExp) and not only_types(node):
            found.append(mutant(RULE, node.test, "False"))
        elif isinstance(node, ast.comprehension):
            found += [mutant(RULE, test, "True") for test in node.ifs]
        elif isinstance(node, ast.BoolOp):
            neutral = "True" if isinstance(node.op, ast.And) else "False"
            found += [mutant(RULE, value, neutral) for value in node.values]
    return sorted(set(found), key=lambda m: (m.start, m.end, m.new))


def rules(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a file but those inside f-strings: what they choose is the wording of a message."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.JoinedStr):
            yield node
            yield from rules(node)


def constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Names and values of a module's constants and of the defaults of its classes' fields.

    A field whose default is a call, as `search/thresholds.py` has them, takes the first argument for its value.
    """
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for statement in (statement for body in bodies for statement in body):
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            yield statement.targets[0].id, statement.value
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            value = statement.value
            yield statement.target.id, value.args[0] if isinstance(value, ast.Call) and value.args else value


def numbers(value: ast.expr) -> Iterator[ast.Constant]:
    """The numbers in an expression, but not those that are an exponent, an index or part of a call."""
    if isinstance(value, ast.Constant) and type(value.value) in (int, float):
        yield value
    elif isinstance(value, ast.UnaryOp):
        yield from numbers(value.operand)
    elif isinstance(value, ast.Tuple | ast.List):
        for element in value.elts:
            yield from numbers(element)
    elif isinstance(value, ast.Dict):
        for element in value.values:
            yield from numbers(element)
    elif isinstance(value, ast.BinOp):
        yield from numbers(value.left)
        if not isinstance(value.op, ast.Pow):
            yield from numbers(value.right)
    elif isinstance(value, ast.Compare):
        for element in (value.left, *value.comparators):
            yield from numbers(element)


def scaled(value: float) -> list[str]:
    """Twice a number and half of it, as long as that is another number; of integers an integer."""
    half = value // 2 if isinstance(value, int) else value / 2
    return [repr(other) for other in (value * 2, half) if other != value]


def is_threshold(value: float) -> bool:
    """Whether a number that is compared with something may be a choice, not one of the small numbers of counting."""
    return isinstance(value, float) or value > 2


def only_types(node: ast.If | ast.IfExp) -> bool:
    """Whether a condition is for the type checker or for a file that is run as a script."""
    names = {part.id for part in ast.walk(node.test) if isinstance(part, ast.Name)}
    return bool(names & {"TYPE_CHECKING", "__name__"})
