"""A YAML text as a tree that remembers where each value was written.

Plain values are read as YAML 1.2 reads them: `1e-5` is a number, `on`, `off`, `yes` and `no` are text, `017` is 17.
(PyYAML follows 1.1, where `1e-5` is text and `off` is false.) Underscores in integers are allowed: `200_000_000`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from steerline.errors import Problem

MAX_NODES = 100_000
"""More values than any config has; stops a file that multiplies itself through aliases."""


@dataclass(frozen=True)
class Mark:
    """Where something was written: a file's line and column, counted from 1, or a `--set`."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}:{self.column}"

    @property
    def short(self) -> str:
        """Without the column."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Scalar:
    """Text, number, truth value or null."""

    value: Any
    mark: Mark


@dataclass(frozen=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    mark: Mark


@dataclass(frozen=True)
class Mapping:
    """A mapping; each key with the place where it stands."""

    entries: dict[str, tuple[Mark, Node]]
    mark: Mark


Node = Scalar | Sequence | Mapping


def plain(node: Node) -> Any:
    """The tree as Python values."""
    match node:
        case Scalar(value=value):
            return value
        case Sequence(items=items):
            return [plain(item) for item in items]
        case Mapping(entries=entries):
            return {key: plain(value) for key, (_, value) in entries.items()}


def parse(text: str, source: str, *, one_line: bool = False) -> tuple[Node | None, list[Problem]]:
    """Read one YAML document.

    Args:
        text: the document.
        source: what marks call it.
        one_line: the text is a `--set`, whose marks need no line.

    Returns:
        The tree (None for an empty document, or one that cannot be read), and what is wrong with it.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Mark(source, mark.line + 1, mark.column + 1) if mark and not one_line else Mark(source)
        parts = (error.context, error.problem)
        return None, [Problem("not valid YAML: " + ", ".join(part for part in parts if part), where=str(place))]
    except yaml.YAMLError as error:
        return None, [Problem(f"not valid YAML: {str(error).splitlines()[0]}", where=source)]
    except RecursionError:
        return None, [Problem("nested too deeply", where=source)]
    if root is None:
        return None, []
    builder = _Builder(source, one_line)
    return builder.build(root), builder.problems


class _Loader(yaml.SafeLoader):
    """Composes nodes, with the plain values of YAML 1.2 in place of 1.1's."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's own class attribute, filled below)


_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+(?:_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)


def _read_bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _read_int(text: str) -> int:
    return int(text, 0 if text[:2] in ("0o", "0x") else 10)


def _read_float(text: str) -> float:
    # YAML writes `.inf` and `.nan`.
    return float(text.replace(".", "", 1) if text.strip("+-.").lower() in ("inf", "nan") else text)


_READERS: dict[str, Callable[[str], Any]] = {
    _TAG + "str": str,
    _TAG + "null": lambda _: None,
    _TAG + "bool": _read_bool,
    _TAG + "int": _read_int,
    _TAG + "float": _read_float,
}


class _Builder:
    """Turns PyYAML's nodes into ours, gathering problems on the way."""

    def __init__(self, source: str, one_line: bool) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._one_line = one_line
        self._path: list[str] = []
        self._open: set[int] = set()
        self._count = 0

    def build(self, node: yaml.Node) -> Node:
        mark = self._mark(node)
        self._count += 1
        if self._count > MAX_NODES:
            if self._count == MAX_NODES + 1:
                self._report(f"more than {MAX_NODES} values: aliases that repeat each other?", mark)
            return Scalar(None, mark)
        if id(node) in self._open:
            self._report("an alias that contains itself", mark)
            return Scalar(None, mark)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, mark)
            if isinstance(node, yaml.SequenceNode):
                self._check_tag(node, "seq", mark)
                return Sequence(tuple(self._below(str(i), item) for i, item in enumerate(node.value)), mark)
            return Scalar(self._value(node, mark), mark)
        finally:
            self._open.discard(id(node))

    def _below(self, key: str, node: yaml.Node) -> Node:
        self._path.append(key)
        try:
            return self.build(node)
        finally:
            self._path.pop()

    def _mapping(self, node: yaml.MappingNode, mark: Mark) -> Mapping:
        self._check_tag(node, "map", mark)
        entries: dict[str, tuple[Mark, Node]] = {}
        for key_node, value_node in node.value:
            key_mark = self._mark(key_node)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                self._report("a key must be text", key_mark, fix="put it in quotes")
                continue
            key = key_node.value
            value = self._below(key, value_node)
            # In quotes it is a text like any other, as in JSON.
            if key == "<<" and key_node.style is None:
                self._report("merge keys are not supported", key_mark, fix="use `extends`, or write the keys out")
            elif key in entries:
                first = f"`{key}`, first at {entries[key][0]}"
                self._report("a key is given twice", key_mark, key, got=first, fix="keep one of the two")
            else:
                entries[key] = (key_mark, value)
        return Mapping(entries, mark)

    def _value(self, node: yaml.Node, mark: Mark) -> Any:
        text: str = node.value
        reader = _READERS.get(node.tag)
        if reader is None:
            self._check_tag(node, "str", mark)
            return None
        try:
            value = reader(text)
        except (ValueError, KeyError):
            self._report("a value does not fit its tag", mark, got=f"{node.tag} {text}")
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self._report("a number must be finite", mark, got=text)
            return None
        return value

    def _check_tag(self, node: yaml.Node, name: str, mark: Mark) -> None:
        if node.tag != _TAG + name:
            self._report("tags are not allowed: a config holds plain values only", mark, got=node.tag)

    def _mark(self, node: yaml.Node) -> Mark:
        if self._one_line:
            return Mark(self._source)
        return Mark(self._source, node.start_mark.line + 1, node.start_mark.column + 1)

    def _report(self, what: str, mark: Mark, *below: str, got: str | None = None, fix: str | None = None) -> None:
        path = ".".join((*self._path, *below)) or None
        self.problems.append(Problem(what, path=path, where=str(mark), got=got, fix=fix))
