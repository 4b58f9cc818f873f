"""A spec as JSON, as the hash that names its run, and as a JSON schema."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from pydantic import BaseModel

from steerline.config.base import NOT_IDENTITY, Spec
from steerline.config.kinds import JOB_KINDS, JobSpec
from steerline.errors import ConfigError

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# JSON may hold these as they are; YAML folds them or refuses the file.
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def resolved(spec: Spec) -> dict[str, Any]:
    """Every field with its value, defaults and nulls included, as JSON values."""
    return spec.model_dump(mode="json")


def resolved_json(spec: Spec) -> str:
    """The resolved config as stable, sorted JSON text; it loads as a config again."""
    text = json.dumps(resolved(spec), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    return _NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def identity(spec: Spec) -> dict[str, Any]:
    """The fields that decide what a run computes: all but those marked `NOT_IDENTITY`, at any depth.

    A field that is null adds nothing, so that a key which a later version adds, off by default, renames no run.
    """
    kept: dict[str, Any] = _identity(spec)
    return kept


def identity_hash(spec: Spec) -> str:
    """SHA-256 in hex of the identity fields. Two configs with equal hashes are the same run, which is resumed."""
    text = json.dumps(identity(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def run_name(spec: JobSpec) -> str:
    """Name of the run and its resume identity: the config's `name` and the start of its hash."""
    return f"{spec.name}-{identity_hash(spec)[:10]}"


def json_schema(kind: str) -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a job's resolved config.

    Raises:
        ConfigError: no job is of this kind.
    """
    if kind not in JOB_KINDS:
        raise ConfigError("no such kind of job", got=kind, expected=" | ".join(JOB_KINDS))
    return {"$schema": DIALECT, **JOB_KINDS[kind].model_json_schema(mode="validation")}


def _identity(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {
            name: _identity(getattr(value, name))
            for name, field in type(value).model_fields.items()
            if field.json_schema_extra != NOT_IDENTITY and getattr(value, name) is not None
        }
    if isinstance(value, dict):
        return {key: _identity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_identity(item) for item in value]
    return value
