"""JSON schemas that requests bring: checked before a model is held to them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from services.http.errors import ApiError

_DEEPEST = 48
# Checking takes longer than reading: some tenths of a millisecond each.
_MOST_PARTS = 4000
# What stands there is data, in which `$ref` is a word like any other.
_DATA = frozenset({"const", "enum", "default", "examples"})
# Keys of what stands there are names of the author's, in which `default` is a word like any other.
_NAMES = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})


def check(schemas: Mapping[str, Mapping[str, Any]]) -> None:
    """See that each is a schema, and refers to nothing outside itself.

    Args:
        schemas: all of a request, by where they stand there.

    Raises:
        ApiError: 400; one is no JSON schema, is nested too deeply, or refers to another document, or all together are
            too large.
    """
    parts = 0
    for param, schema in schemas.items():
        for depth, key, value in _walk(schema):
            parts += 1
            if parts > _MOST_PARTS:
                raise _unfit(f"schemas of a request may have {_MOST_PARTS} parts here, all together", param)
            if depth > _DEEPEST:
                raise _unfit(f"a schema may be nested {_DEEPEST} levels deep here", param)
            if key in {"$ref", "$dynamicRef"} and isinstance(value, str) and not value.startswith("#"):
                raise _unfit(f"references lead inside the schema here; got: {value!a:.100}", param)
        try:
            json.dumps(schema, ensure_ascii=False).encode()
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            place = ".".join(map(str, [param, *error.absolute_path]))
            raise _unfit(f"this is no JSON schema: {error.message:.300}", place) from error
        except (UnicodeEncodeError, OverflowError, RecursionError) as error:
            # Half of a surrogate pair, or a regular expression that cannot be read.
            raise _unfit(f"this is no JSON schema: {type(error).__name__}", param) from error


def rebased(schema: Any, root: str, *, named: bool = False) -> Any:
    """A schema for another place, such as `#/$defs/add`: its references `#` and `#/...` lead there.

    Args:
        schema: the schema.
        root: where it will stand.
        named: it is a mapping of schemas by names of the author's.
    """
    if isinstance(schema, list):
        return [rebased(part, root) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if named:
        return {name: rebased(part, root) for name, part in schema.items()}
    return {
        key: root + value[1:]
        if key == "$ref" and isinstance(value, str)
        else value
        if key in _DATA
        else rebased(value, root, named=key in _NAMES)
        for key, value in schema.items()
    }


def _walk(schema: Any) -> Iterator[tuple[int, str, Any]]:
    """Depth, keyword and value of everything in a schema that is no data; without recursion, for it may be a trap."""
    left: list[tuple[int, str, Any, bool]] = [(0, "", schema, False)]
    while left:
        depth, key, value, named = left.pop()
        yield depth, key, value
        if depth > _DEEPEST:
            continue
        if isinstance(value, dict) and named:
            left += [(depth + 1, "", part, False) for part in value.values()]
        elif isinstance(value, dict):
            left += [(depth + 1, name, part, name in _NAMES) for name, part in value.items() if name not in _DATA]
        elif isinstance(value, list):
            left += [(depth + 1, "", part, False) for part in value]


def _unfit(message: str, param: str) -> ApiError:
    return ApiError(400, "invalid_schema", message, param=param)
