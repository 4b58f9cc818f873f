"""What a spec class allows at each place: which fields, which kinds, which values, and how to say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from steerline.config.base import Spec


def strip(annotation: Any) -> Any:
    """The annotation without `Annotated[...]`."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def arms(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, without None; one alternative for anything else."""
    annotation = strip(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return tuple(arm for arm in get_args(annotation) if arm is not NoneType)
    return (annotation,)


def is_optional(annotation: Any) -> bool:
    """Whether null is allowed."""
    annotation = strip(annotation)
    return get_origin(annotation) in (Union, UnionType) and NoneType in get_args(annotation)


def is_spec(annotation: Any) -> bool:
    """Whether the annotation is a spec class."""
    return isinstance(annotation, type) and issubclass(annotation, Spec)


def kinds(annotation: Any) -> dict[str, type[Spec]]:
    """The members of a union that is told apart by `kind`; empty for anything else."""
    members = [strip(arm) for arm in arms(annotation)]
    if len(members) < 2 or not all(is_spec(member) for member in members):
        return {}
    return {name: member for member in members for name in get_args(member.model_fields["kind"].annotation)}


def spec_class(annotation: Any, kind: Any = None) -> type[Spec] | None:
    """The spec class that reads a mapping at this place, given the mapping's `kind`; None where there is none."""
    members = kinds(annotation)
    if members:
        return members.get(kind) if isinstance(kind, str) else None
    for arm in arms(annotation):
        if is_spec(strip(arm)):
            cls: type[Spec] = strip(arm)
            return cls
    return None


def child(annotation: Any, key: str | int, kind: Any = None) -> Any:
    """The annotation one step further down: a field, an item of a list or an entry of a mapping; None if unknown."""
    cls = spec_class(annotation, kind)
    if cls is not None:
        field = cls.model_fields.get(str(key))
        return None if field is None else field.annotation
    for arm in (strip(arm) for arm in arms(annotation)):
        args = get_args(arm)
        if get_origin(arm) is tuple and isinstance(key, int):
            variadic = len(args) == 2 and args[1] is Ellipsis
            return args[0] if variadic else (args[key] if key < len(args) else None)
        if get_origin(arm) is dict and isinstance(key, str):
            return args[1]
    return None


def sequence_arm(annotation: Any) -> Any:
    """The alternative that reads a list; None where a list is not allowed."""
    return next((arm for arm in arms(annotation) if get_origin(strip(arm)) is tuple), None)


def literals(annotation: Any) -> tuple[Any, ...]:
    """Every literal value that is allowed, over all alternatives."""
    return tuple(
        value for arm in arms(annotation) if get_origin(strip(arm)) is Literal for value in get_args(strip(arm))
    )


def field_paths(cls: type[Spec]) -> Iterator[tuple[str, ...]]:
    """The path of every field below a spec class, through lists and kinds without naming them."""
    for name, field in cls.model_fields.items():
        yield (name,)
        for below in _spec_classes(field.annotation):
            for path in field_paths(below):
                yield (name, *path)


def _spec_classes(annotation: Any) -> Iterator[type[Spec]]:
    for arm in (strip(arm) for arm in arms(annotation)):
        if is_spec(arm):
            yield arm
        elif get_origin(arm) is tuple:
            yield from _spec_classes(get_args(arm)[0])


def describe_field(field: FieldInfo) -> str:
    """What a field allows, for people."""
    return describe(field.annotation, field.metadata)


def describe(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    """What a place allows, for people: `an integer of at least 1, or null`."""
    if get_origin(annotation) is Annotated:
        return describe(get_args(annotation)[0], [*_constraints(get_args(annotation)[1:]), *metadata])
    members = kinds(annotation)
    if members:
        text = "a mapping whose `kind` is " + one_of(members)
    else:
        text = ", or ".join(_describe_arm(arm, list(metadata)) for arm in arms(annotation))
    return text + ", or null" if is_optional(annotation) else text


def one_of(values: Mapping[str, Any] | tuple[Any, ...]) -> str:
    """A choice, for people."""
    return " | ".join(str(value) for value in values)


def _constraints(metadata: tuple[Any, ...]) -> list[Any]:
    return [m for item in metadata for m in (item.metadata if isinstance(item, FieldInfo) else [item])]


def _describe_arm(arm: Any, metadata: list[Any]) -> str:
    if get_origin(arm) is Annotated:
        return describe(arm, metadata)
    if is_spec(arm):
        return "a mapping with the keys " + ", ".join(arm.model_fields)
    if get_origin(arm) is Literal:
        return one_of(get_args(arm))
    if get_origin(arm) is tuple:
        return _describe_list(get_args(arm), metadata)
    name = _NAMES.get(get_origin(arm) or arm, "any value")
    return name + " and".join(text for bound in metadata if (text := _describe_bound(bound)))


def _describe_list(items: tuple[Any, ...], metadata: list[Any]) -> str:
    if items[-1] is not Ellipsis:
        return f"a list of {len(items)} items, each {describe(items[0])}"
    shortest = next((bound.min_length for bound in metadata if isinstance(bound, MinLen)), 0)
    return f"a list{f' of at least {shortest}' if shortest else ''}, each item {describe(items[0])}"


_NAMES = {int: "an integer", float: "a number", str: "text", bool: "true | false", dict: "a mapping"}


def _describe_bound(bound: Any) -> str:
    match bound:
        case Ge(ge=limit):
            return f" of at least {limit}"
        case Gt(gt=limit):
            return f" above {limit}"
        case Le(le=limit):
            return f" of at most {limit}"
        case Lt(lt=limit):
            return f" below {limit}"
        case object(pattern=str() as pattern):
            return f" that matches {pattern}"
    return ""
