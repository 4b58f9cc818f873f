"""A config file becomes a spec: layers, overrides, validation, and where each value came from.

Layers: a file may say `extends: base.yaml` or a list of files, relative to itself, lowest first; those files may extend
others. Later layers win, mappings merge, everything else replaces. `--set a.b=c` comes last. Environment variables are
not expanded, and relative paths inside a config stay as they are written: they are read from the working directory of
the job, not from the folder of the config.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as MappingLike
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from steerline.config import problems as wording
from steerline.config.base import Spec
from steerline.config.kinds import JobSpec
from steerline.config.layers import Layers, display, job_class
from steerline.config.layers import merged as merge
from steerline.config.overrides import Override, OverrideProblem, apply, parse_overrides
from steerline.config.render import resolved
from steerline.config.yaml_nodes import Mapping, Mark, Node, Scalar, plain
from steerline.config.yaml_nodes import Sequence as SequenceNode
from steerline.errors import ConfigError, Problem

S_co = TypeVar("S_co", bound=Spec, covariant=True)
T = TypeVar("T", bound=Spec)


@dataclass(frozen=True)
class Loaded(Generic[S_co]):
    """A config, read."""

    spec: S_co
    """The job."""
    provenance: dict[str, str]
    """Dotted path of each leaf to `default`, `file.yaml:LINE` or `--set`."""
    layers: tuple[Path, ...]
    """The files behind it, lowest layer first."""

    def of(self, cls: type[T]) -> Loaded[T]:
        """The same config as one of a certain kind, for an entry point that carries out that kind alone.

        Raises:
            ConfigError: it is of another kind.
        """
        if isinstance(self.spec, cls):
            return Loaded(self.spec, self.provenance, self.layers)
        kind = self.spec.model_dump(include={"kind"})["kind"]
        raise ConfigError(
            "this config is of another kind",
            where=display(self.layers[-1]),
            got=f"kind: {kind}",
            expected=f"kind: {cls.model_fields['kind'].default}",
            fix=f"`steerline submit` finds the entry point of each kind; by hand it is `python -m jobs.{kind} FILE`",
        )


def load(path: Path, overrides: Sequence[str] = ()) -> Loaded[JobSpec]:
    """Read a config file with all that it extends, and lay overrides over it.

    Args:
        path: the file.
        overrides: `a.b=c` texts, c a YAML value; an index names an item of a list: `evaluation.tasks.0.name=x`.

    Raises:
        ConfigError: with every problem of every layer.
    """
    layers = Layers()
    layers.read(path)
    sets, problems = parse_overrides(overrides)
    problems = [*layers.problems, *problems]
    if layers.broken:
        # What a broken file would have said is unknown, so nothing can be judged beyond it.
        raise _error(path, problems)
    trees = [tree for _, tree in layers.layers]
    cls = job_class(trees)
    merged = _overridden(merge(trees), sets, cls, problems)
    spec = _validate(merged, cls, problems)
    if spec is None or problems:
        raise _error(path, problems)
    provenance = dict(_provenance(resolved(spec), merged, ()))
    return Loaded(spec, provenance, tuple(file for file, _ in layers.layers))


def changed(spec: T, changes: MappingLike[str, Any], source: str) -> T:
    """A spec with values laid over it, judged as a file is that says the same.

    Args:
        spec: what is changed.
        changes: dotted paths and their values, as with `--set`.
        source: what messages call the place where the changes stand.

    Raises:
        ConfigError: with every problem.
    """
    mark = Mark(source)
    overrides = [Override(tuple(path.split(".")), _node(value, mark), mark) for path, value in changes.items()]
    overrides.sort(key=lambda override: override.path[-1] != "kind")
    root = _node(resolved(spec), mark)
    assert isinstance(root, Mapping)
    problems: list[Problem] = []
    result = _validate(_overridden(root, overrides, type(spec), problems), type(spec), problems)
    if result is None or problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError(f"{count} in {source}", problems=problems)
    return result


def _node(value: Any, mark: Mark) -> Node:
    if isinstance(value, MappingLike):
        return Mapping({str(key): (mark, _node(item, mark)) for key, item in value.items()}, mark)
    if isinstance(value, list | tuple):
        return SequenceNode(tuple(_node(item, mark) for item in value), mark)
    return Scalar(value, mark)


def _error(path: Path, problems: list[Problem]) -> ConfigError:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ConfigError(f"{count} in {display(path)}", problems=problems)


def _overridden(root: Mapping, sets: Sequence[Override], cls: type[Spec], problems: list[Problem]) -> Mapping:
    whole: Node = root
    for override in sets:
        try:
            whole = apply(override, whole, cls)
        except OverrideProblem as error:
            problems.append(error.problem)
    assert isinstance(whole, Mapping)
    return Mapping(whole.entries, root.mark)


def _validate(root: Mapping, cls: type[T], problems: list[Problem]) -> T | None:
    """Validate, and where that fails look past each fault for those behind it: pydantic judges a spec as a whole only
    once its fields are right, so an unknown key would hide that two other keys do not go together."""
    tree = root
    seen: list[wording.Fault] = []
    said = {problem.path for problem in problems}
    while True:
        try:
            spec = cls.model_validate_json(json.dumps(plain(tree)), strict=True)
        except ValidationError as error:
            faults = wording.faults(error, tree, cls)
        else:
            return None if seen else spec
        news = [fault.problem for fault in faults if _is_news(fault, seen)]
        problems.extend(problem for problem in news if problem.path not in said)
        seen.extend(faults)
        pruned = tree
        for path in (path for fault in faults if not fault.missing for path in (fault.path, *fault.fields)):
            pruned = _without(pruned, path)
        if pruned == tree:
            return None
        tree = pruned


def _is_news(fault: wording.Fault, seen: list[wording.Fault]) -> bool:
    """Not said before, and not a mere consequence of a value that was taken out because it was wrong."""
    for other in seen:
        taken = other.alias_of or other.path
        if fault.path in (other.path, taken):
            return False
        if any(taken[: len(field)] == field for field in fault.fields):
            return False
    return True


def _without(node: Mapping, path: wording.Trail) -> Mapping:
    """The tree without the value at `path`; unchanged where it lies in a list, whose other items would move."""
    entry = node.entries.get(str(path[0])) if path else None
    if entry is None:
        return node
    head, *rest = path
    mark, below = entry
    entries = dict(node.entries)
    if not rest:
        del entries[str(head)]
    elif isinstance(below, Mapping):
        entries[str(head)] = (mark, _without(below, tuple(rest)))
    return Mapping(entries, node.mark)


def _provenance(value: Any, node: Node | None, path: tuple[str | int, ...]) -> Iterator[tuple[str, str]]:
    """Each leaf of the resolved config with the place that set it."""
    children: Iterator[tuple[str | int, Any]] = iter(())
    if isinstance(value, dict):
        children = iter(value.items())
    elif isinstance(value, list):
        children = iter(enumerate(value))
    if value not in ({}, []) and isinstance(value, dict | list):
        for key, item in children:
            yield from _provenance(item, _below(node, key), (*path, key))
    else:
        yield wording.dotted(path), "default" if node is None else _source(node)


def _below(node: Node | None, key: str | int) -> Node | None:
    if isinstance(node, Mapping):
        return node.entries[str(key)][1] if key in node.entries else None
    if isinstance(node, SequenceNode) and isinstance(key, int):
        return node.items[key]
    return None


def _source(node: Node) -> str:
    return "--set" if node.mark.line is None else node.mark.short
