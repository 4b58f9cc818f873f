"""`--set a.b=c`: the last layer, one value at a time."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

from steerline.config.layers import kind_of, lay_over
from steerline.config.shape import child, sequence_arm
from steerline.config.yaml_nodes import Mapping, Mark, Node, Scalar, Sequence, parse
from steerline.errors import Problem

SOURCE = "--set"
"""What provenance calls this layer."""


@dataclass(frozen=True)
class Override:
    """One `--set`."""

    path: tuple[str, ...]
    node: Node
    mark: Mark


def parse_overrides(texts: Seq[str]) -> tuple[list[Override], list[Problem]]:
    """Read `a.b=c` texts; c is a YAML value, and empty is null.

    Those that choose a `kind` come first, so that their order on the command line does not matter.
    """
    overrides, problems = [], []
    for text in texts:
        name, equals, value = text.partition("=")
        path = tuple(name.strip().split("."))
        source = f"{SOURCE} {text}"
        if not equals or not all(path):
            expected = "a.b=c, e.g. `--set training.num_steps=3`"
            problems.append(Problem("cannot read this override", where=source, expected=expected))
            continue
        node, found = parse(value, source, one_line=True)
        problems.extend(Problem(p.what, path=name, where=p.where, got=p.got, fix=p.fix) for p in found)
        overrides.append(Override(path, node or Scalar(None, Mark(source)), Mark(source)))
    overrides.sort(key=lambda override: override.path[-1] != "kind")
    return overrides, problems


class OverrideProblem(Exception):  # noqa: N818  (never leaves this package: it carries a problem to the list)
    """An override that points at nothing."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what)
        self.problem = problem


def apply(override: Override, root: Node, annotation: Any) -> Node:
    """The tree with one override in it.

    Raises:
        OverrideProblem: the path leads through a value that has no keys, or to a list item that is not there.
    """
    return _put(root, override.path, override, annotation)


def _put(node: Node | None, rest: tuple[str, ...], override: Override, annotation: Any) -> Node:
    if not rest:
        return override.node if node is None else lay_over(node, override.node, annotation)
    head, *tail = rest
    if isinstance(node, Sequence) or (
        not isinstance(node, Mapping) and sequence_arm(annotation) is not None and head.isdecimal()
    ):
        items = list(node.items) if isinstance(node, Sequence) else []
        index = _index(head, len(items), override, len(rest))
        items[index] = _put(items[index], tuple(tail), override, child(annotation, index))
        return Sequence(tuple(items), node.mark if node else override.mark)
    if isinstance(node, Scalar) and node.value is not None:
        raise OverrideProblem(
            Problem(
                f"`{_prefix(override, len(rest))}` is a single value, so nothing lies below it",
                path=".".join(override.path),
                where=str(override.mark),
                got=f"{node.value!r} from {node.mark}",
            )
        )
    below = node if isinstance(node, Mapping) else Mapping({}, override.mark)
    if head == "kind" and not tail:
        # As in a file: naming another kind leaves nothing of the mapping below.
        return lay_over(below, Mapping({"kind": (override.mark, override.node)}, override.mark), annotation)
    _, current = below.entries.get(head, (None, None))
    new = _put(current, tuple(tail), override, child(annotation, head, kind_of(below)))
    mark = below.entries[head][0] if current is not None and tail else override.mark
    return Mapping({**below.entries, head: (mark, new)}, below.mark)


def _index(head: str, length: int, override: Override, remaining: int) -> int:
    if head.isdecimal() and int(head) < length:
        return int(head)
    prefix = _prefix(override, remaining)
    raise OverrideProblem(
        Problem(
            f"`{prefix}` is a list of {length} items",
            path=".".join(override.path),
            where=str(override.mark),
            got=f"index `{head}`",
            expected=f"0 to {length - 1}" if length else "the whole list",
            fix=f"to replace the list: `--set {prefix}=[...]`",
        )
    )


def _prefix(override: Override, remaining: int) -> str:
    return ".".join(override.path[: len(override.path) - remaining])
