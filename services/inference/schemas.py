"""JSON schemas that requests bring: checked before a model is held to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from services.http.errors import ApiError

_DEEPEST = 48
# What stands there is data, in which `$ref` is a word like any other.
_DATA = frozenset({"const", "enum", "default", "examples"})


def checked(schema: Mapping[str, Any], param: str) -> Mapping[str, Any]:
    """The schema, if it is one and refers to nothing outside itself.

    Args:
        schema: from a request.
        param: where it stands there.

    Raises:
        ApiError: 400; it is no JSON schema, is nested too deeply, or refers to another document.
    """
    for depth, key, value in _walk(schema):
        if depth > _DEEPEST:
            raise ApiError(400, "invalid_schema", f"a schema may be nested {_DEEPEST} levels deep here", param=param)
        if key in {"$ref", "$dynamicRef"} and isinstance(value, str) and not value.startswith("#"):
            raise ApiError(
                400, "invalid_schema", f"references lead inside the schema here; got: {value:.100}", param=param
            )
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = ".".join(map(str, [param, *error.absolute_path]))
        raise ApiError(400, "invalid_schema", f"this is no JSON schema: {error.message:.300}", param=place) from error
    return schema


def rebased(schema: Any, root: str) -> Any:
    """A schema for another place, such as `#/$defs/add`: its references `#` and `#/...` lead there."""
    if isinstance(schema, list):
        return [rebased(part, root) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: root + value[1:]
        if key == "$ref" and isinstance(value, str)
        else value
        if key in _DATA
        else rebased(value, root)
        for key, value in schema.items()
    }


def _walk(schema: Any) -> Iterator[tuple[int, str, Any]]:
    """Depth, key and value of everything in a schema that is no data; without recursion, for it may be a trap."""
    left: list[tuple[int, str, Any]] = [(0, "", schema)]
    while left:
        depth, key, value = left.pop()
        yield depth, key, value
        if depth > _DEEPEST:
            continue
        if isinstance(value, dict):
            left += [(depth + 1, str(name), part) for name, part in value.items() if name not in _DATA]
        elif isinstance(value, list):
            left += [(depth + 1, "", part) for part in value]
