"""The chain from data sets through runs, checkpoints and exports to registered models, in either direction."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from rich.markup import escape
from rich.tree import Tree

from steerline.errors import TrackingError
from steerline.tracking.connection import connect, patiently
from steerline.tracking.graph import Entity, Graph

Direction = Literal["up", "down", "both"]

_LABELS = {
    "dataset": "data set",
    "run": "run",
    "checkpoint": "checkpoint",
    "export": "exported model",
    "version": "registered model",
    "other": "source",
}


@dataclass(frozen=True)
class Node:
    """One thing in the chain, with what it came from (upwards) or what came from it (downwards)."""

    kind: str
    title: str
    ref: str
    """What `lineage` takes to start from here."""
    role: str = ""
    """How it is linked to the node above it in the tree."""
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Lineage:
    """The answer: a tree of ancestors, a tree of descendants, or both, each with the asked-for thing at its root."""

    up: Node | None = None
    down: Node | None = None


def lineage(uri: str, ref: str, direction: Direction = "up") -> Lineage:
    """Trace a thing back to its sources or on to its results.

    Args:
        uri: the tracking server.
        ref: a run's name or id, `models:/name@alias`, `models:/name/version`, `models:/m-<id>` (a checkpoint or an
            export), or the beginning of a data set's digest (6 characters at least).
        direction: up to the sources, down to the results, or both.

    Raises:
        TrackingError: nothing is known under `ref`, or the server is away.
    """

    def trace() -> Lineage:
        graph = Graph(connect(uri))
        start = _find(graph, ref)
        return Lineage(
            up=_Tracer(graph).up(start) if direction in ("up", "both") else None,
            down=_Tracer(graph).down(start) if direction in ("down", "both") else None,
        )

    return patiently(trace, what=f"trace {ref}", tracking_uri=uri, timeout_s=15.0)


def render(found: Lineage) -> Tree:
    """The lineage as a tree for a terminal."""
    roots = [(found.up, "came from"), (found.down, "led to")]
    shown = [(node, label) for node, label in roots if node is not None]
    tree = Tree(_label(shown[0][0]))
    for node, label in shown:
        branch = tree.add(f"[italic]{label}[/italic]" if node.children else f"[italic]{label}: nothing known[/italic]")
        for child in node.children:
            _grow(branch, child)
    return tree


def _grow(tree: Tree, node: Node) -> None:
    branch = tree.add(_label(node))
    for child in node.children:
        _grow(branch, child)


def _label(node: Node) -> str:
    role = f" as {node.role}" if node.role else ""
    # What the server does not know has no other name than its reference.
    ref = "" if node.ref == node.title else f" [dim]{escape(node.ref)}[/dim]"
    return f"{_LABELS[node.kind]}{escape(role)} [bold]{escape(node.title)}[/bold]{ref}"


def _find(graph: Graph, ref: str) -> Entity:
    if ref.startswith("models:/"):
        return graph.model(ref)
    found = graph.run_by_id(ref) if re.fullmatch(r"[0-9a-f]{32}", ref) else None
    found = found or graph.run_by_name(ref)
    if found is None and re.fullmatch(r"[0-9a-f]{6,64}", ref):
        found = graph.dataset(ref)
    if found is None:
        raise TrackingError(
            "Nothing is known under this reference",
            got=ref,
            expected="a run's name or id, models:/name@alias, models:/name/version, or 6 or more of a digest's digits",
        )
    return found


@dataclass
class _Tracer:
    graph: Graph
    seen: set[str] = field(default_factory=set)

    def up(self, entity: Entity, role: str = "") -> Node:
        return self._node(entity, role, upwards=True)

    def down(self, entity: Entity, role: str = "") -> Node:
        return self._node(entity, role, upwards=False)

    def _node(self, entity: Entity, role: str, *, upwards: bool) -> Node:
        first_time = entity.ref not in self.seen
        self.seen.add(entity.ref)
        # Something met again is named but not opened again: lineage is a graph, and tags could even make a loop.
        links = (self.graph.sources(entity) if upwards else self.graph.results(entity)) if first_time else []
        children = tuple(self._node(other, link, upwards=upwards) for link, other in links)
        return Node(entity.kind, entity.title, entity.ref, role, children)
