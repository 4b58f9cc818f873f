"""What is wrong with a config, in words for people, each with the place where it was written.

Pydantic finds the problems; nothing of its wording is shown.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from steerline.config import shape
from steerline.config.base import Spec
from steerline.config.layers import kind_of
from steerline.config.yaml_nodes import Mapping, Mark, Node, Scalar, Sequence, plain
from steerline.errors import Problem

Trail = tuple[str | int, ...]
"""Keys and indexes from the root of a config to a place in it."""


@dataclass(frozen=True)
class Fault:
    """A problem, and what it takes to look past it."""

    path: Trail
    """Where in the tree; for a missing key, where it should be."""
    problem: Problem
    fields: tuple[Trail, ...] = ()
    """For values that do not go together: which."""
    alias_of: Trail | None = None
    """For an unknown key: the key that was probably meant."""
    missing: bool = False


def faults(error: ValidationError, root: Mapping, cls: type[Spec]) -> list[Fault]:
    """The faults behind one validation error, in the order of the config, each place once."""
    found: dict[Trail, Fault] = {}
    for details in error.errors(include_url=False):
        place = _Place.find(root, cls, details["loc"])
        if place is not None and place.path not in found:
            found[place.path] = _fault(place, details, cls)
    # "At least one item" is also said of a list whose items are all wrong.
    parents = {path[:n] for path in found for n in range(len(path))}
    meant = {fault.alias_of for fault in found.values()}
    return [
        fault
        for path, fault in found.items()
        if (path not in parents or fault.fields) and not (fault.missing and path in meant)
    ]


@dataclass(frozen=True)
class _Place:
    """A spot of the tree, and what is allowed there."""

    path: Trail
    node: Node | None
    """None where the config holds nothing."""
    mark: Mark
    """Of the key or item; where there is none, of the nearest thing around it."""
    annotation: Any
    owner: Any
    """Annotation of the mapping around it."""
    owner_kind: Any

    @staticmethod
    def find(root: Mapping, cls: type[Spec], loc: tuple[str | int, ...]) -> _Place | None:
        """Follow pydantic's location. None where it speaks of the alternative of a union that was not meant."""
        place = _Place((), root, root.mark, cls, None, None)
        for part in loc:
            kind = kind_of(place.node) if isinstance(place.node, Mapping) else None
            members = shape.kinds(place.annotation)
            if members and part == kind:
                place = replace(place, annotation=members[kind])
            elif not members and len(shape.arms(place.annotation)) > 1:
                # The location names a union's alternative, e.g. `tuple[str, ...]`.
                if not isinstance(place.node, Sequence):
                    return place
                if not str(part).startswith("tuple["):
                    return None
                place = replace(place, annotation=shape.sequence_arm(place.annotation))
            else:
                place = place._step(part, kind)
        return place

    def _step(self, part: str | int, kind: Any) -> _Place:
        node: Node | None = None
        mark = self.mark
        if isinstance(self.node, Mapping) and part in self.node.entries:
            mark, node = self.node.entries[str(part)]
        elif isinstance(self.node, Sequence) and isinstance(part, int) and part < len(self.node.items):
            node = self.node.items[part]
            mark = node.mark
        annotation = shape.child(self.annotation, part, kind)
        return _Place((*self.path, part), node, mark, annotation, self.annotation, kind)

    @property
    def dotted(self) -> str:
        return dotted(self.path)

    @property
    def value_mark(self) -> Mark:
        return self.node.mark if isinstance(self.node, Scalar) else self.mark

    @property
    def allowed(self) -> str:
        owner = shape.spec_class(self.owner, self.owner_kind)
        if owner is not None and self.path and self.path[-1] in owner.model_fields:
            return shape.describe_field(owner.model_fields[str(self.path[-1])])
        return shape.describe(self.annotation)


def dotted(path: Iterable[str | int]) -> str:
    """A path as people write it: `evaluation.tasks.0.name`."""
    return ".".join(str(part) for part in path)


def _fault(place: _Place, details: ErrorDetails, cls: type[Spec]) -> Fault:
    match details["type"]:
        case "extra_forbidden":
            return _unknown_key(place, cls)
        case "missing":
            return Fault(place.path, _missing(place.dotted, place.mark, place.allowed), missing=True)
        case "union_tag_not_found" if isinstance(place.node, Mapping):
            path = (*place.path, "kind")
            allowed = shape.one_of(shape.kinds(place.annotation))
            return Fault(path, _missing(dotted(path), place.mark, allowed), missing=True)
        case "union_tag_invalid" if isinstance(place.node, Mapping):
            return _unknown_kind(place, place.node)
        case "misfit" | "value_error":
            return _misfit(place, details)
    problem = Problem(
        "this value is not allowed",
        path=place.dotted,
        where=str(place.value_mark),
        got=_show(place.node),
        expected=place.allowed,
        fix=_value_hint(place),
    )
    return Fault(place.path, problem)


def _missing(path: str, mark: Mark, allowed: str) -> Problem:
    return Problem("missing key", path=path, where=str(mark), got="nothing", expected=allowed)


def _unknown_key(place: _Place, cls: type[Spec]) -> Fault:
    name = str(place.path[-1])
    owner = shape.spec_class(place.owner, place.owner_kind)
    fields = list(owner.model_fields) if owner is not None else []
    elsewhere = [dotted(path) for path in shape.field_paths(cls) if path[-1] == name]
    elsewhere.sort(key=lambda path: -_shared(path, place.dotted))
    close = difflib.get_close_matches(name, fields, n=1)
    fix = None
    if close:
        fix = f"did you mean `{close[0]}`?"
    elif elsewhere:
        fix = "it belongs at " + " or ".join(f"`{path}`" for path in elsewhere[:2])
    problem = Problem(
        f"unknown key `{name}`",
        path=place.dotted,
        where=str(place.mark),
        got=f"{name}: {_show(place.node)}",
        expected=shape.one_of(tuple(fields)) if fields else None,
        fix=fix,
    )
    return Fault(place.path, problem, alias_of=(*place.path[:-1], close[0]) if close else None)


def _shared(path: str, other: str) -> int:
    return sum(a == b for a, b in zip(path.split("."), other.split("."), strict=False))


def _unknown_kind(place: _Place, node: Mapping) -> Fault:
    path = (*place.path, "kind")
    _, kind = node.entries["kind"]
    names = shape.kinds(place.annotation)
    problem = Problem(
        "unknown kind",
        path=dotted(path),
        where=str(kind.mark),
        got=_show(kind),
        expected=shape.one_of(names),
        fix=_did_you_mean(plain(kind), tuple(names)),
    )
    return Fault(path, problem)


def _misfit(place: _Place, details: ErrorDetails) -> Fault:
    context = details.get("ctx", {})
    if details["type"] == "value_error":
        what = str(context["error"])
        problem = Problem(what, path=place.dotted or None, where=str(place.value_mark), got=_show(place.node))
        return Fault(place.path, problem, fields=(place.path,))
    fields = tuple((*place.path, *_split(name)) for name in context["fields"]) or (place.path,)
    written = [(path, node) for path in fields if (node := _at(place, path)) is not None]
    at, node = written[0] if written else (place.path, place.node)
    got = [f"{dotted(path)}: {_show(other)} ({other.mark})" for path, other in written if len(written) > 1]
    problem = Problem(
        context["what"],
        path=dotted(at) or None,
        where=str(node.mark if written and node is not None else place.value_mark),
        got=", ".join(got) or _show(node),
        expected=context["expected"],
        fix=context["fix"],
    )
    return Fault(at, problem, fields=fields)


def _split(name: str) -> Trail:
    return tuple(int(part) if part.isdecimal() else part for part in name.split("."))


def _at(place: _Place, path: Trail) -> Node | None:
    node = place.node
    for part in path[len(place.path) :]:
        if isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
        else:
            _, node = node.entries.get(str(part), (None, None)) if isinstance(node, Mapping) else (None, None)
    return None if isinstance(node, Scalar) and node.value is None else node


def _value_hint(place: _Place) -> str | None:
    value = plain(place.node) if place.node is not None else None
    choices = shape.literals(place.annotation)
    if isinstance(value, str):
        if value.lower() in ("yes", "no", "on", "off") and bool in shape.arms(place.annotation):
            return f"write {str(value.lower() in ('yes', 'on')).lower()}"
        if _is_number(value) and {int, float} & set(shape.arms(place.annotation)):
            return "remove the quotes"
        return _did_you_mean(value, tuple(str(choice) for choice in choices))
    if isinstance(value, int | float) and str in shape.arms(place.annotation):
        return "put it in quotes to make it text"
    if place.node is not None and not isinstance(place.node, Sequence) and shape.sequence_arm(place.annotation):
        return "write a list: `[...]`"
    return None


def _is_number(text: str) -> bool:
    return text.lstrip("+-").replace(".", "", 1).isdecimal()


def _did_you_mean(value: Any, choices: tuple[str, ...]) -> str | None:
    close = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    return f"did you mean `{close[0]}`?" if close else None


def _show(node: Node | None, limit: int = 60) -> str:
    if node is None:
        return "nothing"
    value = plain(node)
    if isinstance(node, Mapping):
        text = "{" + ", ".join(value) + "}"
        return f"a mapping {text}" if len(text) <= limit else f"a mapping with {len(value)} keys"
    text = json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= limit else text[: limit - 3] + "..."
    if isinstance(value, str):
        return f"the text {text}"
    return f"a list {text}" if isinstance(value, list) else text
