"""The files behind a config: a file, what it extends, and how one layer is laid over another."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence as Seq
from dataclasses import replace
from pathlib import Path
from typing import Any

from steerline.config.kinds import DEFAULT_KIND, JOB_KINDS, JobSpec
from steerline.config.shape import child, kinds
from steerline.config.yaml_nodes import Mapping, Mark, Node, Scalar, Sequence, parse
from steerline.errors import Problem

EXTENDS = "extends"
"""Root key of a file that names the file or files it is laid over, relative to itself."""
BASE = "base"
"""Root key of a sweep whose config may extend files too."""


class Layers:
    """Reads a file and all that it extends, lowest layer first. Problems are gathered, not raised."""

    def __init__(self) -> None:
        self.layers: list[tuple[Path, Mapping]] = []
        self.problems: list[Problem] = []
        self.broken = False
        """Whether a layer could not be read at all."""

    def read(self, path: Path, *, chain: tuple[Path, ...] = (), named_at: Mark | None = None) -> None:
        """Append the layers of `path`.

        Args:
            path: the file.
            chain: the files that led here, to find a circle.
            named_at: the `extends` that named it.
        """
        identity = path.resolve()
        if identity in chain:
            names = " -> ".join(display(file) for file in (*chain[chain.index(identity) :], identity))
            self.problems.append(Problem("a file extends itself", path=EXTENDS, where=str(named_at), got=names))
            self.broken = True
            return
        root = self._parse(path, named_at)
        if root is None:
            self.broken = True
            return
        entries = dict(root.entries)
        bases = entries.pop(EXTENDS, None)
        for base, mark in self._bases(bases):
            self.read(path.parent / base, chain=(*chain, identity), named_at=mark)
        if BASE in entries:
            mark, inner = entries[BASE]
            entries[BASE] = (mark, self._embedded(inner, path, (*chain, identity)))
        self.layers.append((path, Mapping(entries, root.mark)))

    def _embedded(self, node: Node, path: Path, chain: tuple[Path, ...]) -> Node:
        """The config that a sweep varies, with all that it extends, as one tree."""
        if not isinstance(node, Mapping):
            return node
        entries = dict(node.entries)
        below = Layers()
        for base, mark in self._bases(entries.pop(EXTENDS, None)):
            below.read(path.parent / base, chain=chain, named_at=mark)
        self.problems.extend(below.problems)
        self.broken = self.broken or below.broken
        top = Mapping(entries, node.mark)
        whole = top if below.broken else merged([*(layer for _, layer in below.layers), top])
        if not below.layers or "kind" in whole.entries:
            return whole
        return replace(whole, entries={"kind": (node.mark, Scalar(DEFAULT_KIND, node.mark)), **whole.entries})

    def _parse(self, path: Path, named_at: Mark | None) -> Mapping | None:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            what = f"cannot read {display(path)}: {error.strerror}"
            self.problems.append(Problem(what, where=str(named_at) if named_at else None, fix=_nearest_file(path)))
            return None
        except UnicodeDecodeError:
            self.problems.append(Problem("not UTF-8 text", where=display(path)))
            return None
        root, problems = parse(text, display(path))
        self.problems.extend(problems)
        if isinstance(root, Mapping):
            return root
        if not problems:
            got = "an empty file" if root is None else "a list" if isinstance(root, Sequence) else "a single value"
            self.problems.append(Problem("a config is a mapping", where=f"{display(path)}:1:1", got=got))
        return None

    def _bases(self, entry: tuple[Mark, Node] | None) -> list[tuple[str, Mark]]:
        if entry is None:
            return []
        mark, node = entry
        items = node.items if isinstance(node, Sequence) else (node,)
        bases = []
        for item in items:
            if isinstance(item, Scalar) and isinstance(item.value, str):
                bases.append((item.value, item.mark))
            else:
                expected = "a path, or a list of paths, relative to this file"
                self.problems.append(Problem("cannot extend this", path=EXTENDS, where=str(mark), expected=expected))
        return bases


def lay_over(base: Node, top: Node, annotation: Any) -> Node:
    """Lay `top` over `base`: mappings merge, everything else replaces.

    A mapping whose `kind` chooses the spec that reads it replaces the whole mapping below when it names another kind,
    since the keys of one kind mean nothing to another.
    """
    if not (isinstance(base, Mapping) and isinstance(top, Mapping)):
        return top
    if kinds(annotation) and kind_of(top) is not None and kind_of(top) != kind_of(base):
        return top
    kind = kind_of(top) if kind_of(top) is not None else kind_of(base)
    entries = dict(base.entries)
    for key, (mark, node) in top.entries.items():
        below = entries[key][1] if key in entries else None
        place = child(annotation, key, kind)
        entries[key] = (mark, node if below is None else lay_over(below, node, place))
    return Mapping(entries, top.mark)


def job_class(trees: Seq[Mapping]) -> type[JobSpec]:
    """The spec that reads some layers: of the last kind of job that they name."""
    named = (kind_of(tree) for tree in reversed(trees))
    return next((JOB_KINDS[kind] for kind in named if kind in JOB_KINDS), JOB_KINDS[DEFAULT_KIND])


def merged(trees: Seq[Mapping]) -> Mapping:
    """Layers as one tree, later ones laid over earlier ones."""
    cls = job_class(trees)
    whole: Node = trees[0]
    for tree in trees[1:]:
        whole = lay_over(whole, tree, cls)
    assert isinstance(whole, Mapping)
    return whole


def kind_of(node: Mapping) -> Any:
    """The `kind` that a mapping names, if any."""
    _, kind = node.entries.get("kind", (None, None))
    return kind.value if isinstance(kind, Scalar) else None


def display(path: Path) -> str:
    """A path as messages show it: relative to the working directory where it lies below it."""
    absolute = Path(os.path.normpath(path.absolute()))
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def _nearest_file(path: Path) -> str | None:
    if path.exists():
        return None
    if not path.parent.is_dir():
        return f"the folder {display(path.parent)} does not exist"
    names = [file.name for file in path.parent.iterdir() if file.suffix in (".yaml", ".yml", ".json")]
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {display(path.parent / close[0])}?" if close else None
