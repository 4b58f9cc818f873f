from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch
from jsonschema import validate

from tests.tiny import tiny_model
from tests.unit.inference.tiny_backend import backend, complete, generate

SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {"give": {"type": "integer", "minimum": 0, "maximum": 20}},
        "required": ["give"],
        "additionalProperties": False,
    },
    {"enum": ["yes", "no"]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
]


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_answers_keep_their_schemas_in_one_batch_with_free_ones(temperature: float) -> None:
    pytest.importorskip("llguidance")
    local = backend(model=tiny_model("llama", dtype=torch.float64))
    warm = {"temperature": temperature}
    held = [
        complete(f"Q{seed}", 200, response_schema=schema, sampling=warm, seed=seed)
        for schema in SCHEMAS
        for seed in (1, 2)
    ]
    free = complete("Q1", 20, sampling=warm, seed=1)
    *answers, last = generate(local, [*held, free])
    for request, answer in zip(held, answers, strict=True):
        assert answer.finish_reason == "stop", answer
        validate(json.loads(answer.text), request.response_schema)
    assert last.text == generate(local, [free])[0].text


def test_a_schema_that_cannot_be_held_is_refused() -> None:
    pytest.importorskip("llguidance")
    (result,) = generate(backend(), [complete("Q", response_schema={"type": "no such type"})])
    assert result.failure is not None
    assert result.failure.kind == "refused"


def test_an_answer_that_cannot_be_held_to_its_schema_any_further_is_no_answer() -> None:
    pytest.importorskip("llguidance")
    node = {"type": "object", "properties": {"x": {"$ref": "#/$defs/node"}}, "required": ["x"]}
    endless = {"$defs": {"node": node}, "$ref": "#/$defs/node"}
    held, free = generate(backend(), [complete("Q1", 20, response_schema=endless), complete("Q1", 20)])
    assert held.failure is not None
    assert (held.failure.kind, held.failure.what.splitlines()) == ("refused", [held.failure.what])
    assert held.usage.completion_tokens > 0  # somebody pays for what was written
    assert free.failure is None


def test_without_llguidance_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    (result,) = generate(backend(), [complete("Q", response_schema=SCHEMAS[1])])
    assert result.failure is not None
    assert "steerline[serve]" in result.failure.what
