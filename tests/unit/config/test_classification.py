"""What goes with a classifier and what with a language model."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from steerline.config.finetune import FinetuneSpec

ROWS = {
    "source": {"kind": "file", "path": "rows.jsonl"},
    "format": {"kind": "classification", "classes": ["no", "yes"]},
}
TEXT = {"source": {"kind": "file", "path": "rows.jsonl"}, "format": {"kind": "text"}}
CLASSIFIER: dict[str, Any] = {
    "name": "c",
    "model": {"source": {"kind": "random", "architecture": "safr_classifier", "tokenizer": {"kind": "words"}}},
    "data": {"train": [ROWS], "heldout": [ROWS]},
    "objective": {"kind": "classification"},
    "training": {
        "num_epochs": 2,
        "heldout_every_epochs": 1,
        "early_stopping": {"metric": "heldout/accuracy", "mode": "max"},
    },
    "evaluation": {"tasks": [{"name": "t", "method": "classify", "dataset": ROWS}]},
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**CLASSIFIER, **{name: {**CLASSIFIER.get(name, {}), **part} for name, part in changes.items()}}


def test_a_classifier_knows_its_classes() -> None:
    assert FinetuneSpec.model_validate(CLASSIFIER).classes == ("no", "yes")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"packing": True}}, "cannot be packed"),
        ({"data": {"train": [TEXT]}}, "texts with a class"),
        ({"data": {"heldout": [TEXT]}}, "texts with a class"),
        (
            {"data": {"heldout": [{**ROWS, "format": {"kind": "classification", "classes": ["yes", "no"]}}]}},
            "different classes",
        ),
        ({"data": {"heldout": []}}, "early stopping needs held-out data"),
        ({"model": {"lora": {}}}, "adapters are for language models"),
        ({"objective": {"kind": "causal_lm"}}, "trains on next tokens"),
        ({"evaluation": {"tasks": [{"name": "t", "dataset": ROWS}]}}, "judged by `method: classify`"),
        ({"evaluation": {"tasks": [{"name": "t", "method": "classify", "dataset": TEXT}]}}, "reads texts with a class"),
        ({"training": {"heldout_every_epochs": None}}, "early stopping counts held-out looks"),
        ({"training": {"heldout_every_steps": 5}}, "at most one of"),
        ({"training": {"early_stopping": {"metric": "heldout/accuracy", "mode": "min"}}}, "better when it is larger"),
        ({"training": {"early_stopping": {"metric": "heldout/loss", "mode": "max"}}}, "better when it is smaller"),
    ],
)
def test_parts_that_do_not_fit_a_classifier_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FinetuneSpec.model_validate(changed(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {}}, "no end of text"),
        (
            {
                "model": {"source": {"kind": "random", "architecture": "gpt2"}},
                "evaluation": {"tasks": [{"name": "t", "method": "classify", "dataset": ROWS}]},
            },
            "only a classifier can classify",
        ),
        (
            {"model": {"source": {"kind": "random", "architecture": "gpt2"}}},
            "only a classifier has a held-out accuracy",
        ),
    ],
)
def test_parts_that_need_a_classifier_are_refused_elsewhere(changes: dict[str, Any], message: str) -> None:
    language_model = changed(
        data={"train": [TEXT], "heldout": [TEXT]}, objective={"kind": "causal_lm"}, evaluation={"tasks": []}
    )
    merged = {**language_model, **{name: {**language_model[name], **part} for name, part in changes.items()}}
    with pytest.raises(ValidationError, match=message):
        FinetuneSpec.model_validate(merged)


def test_two_classes_of_one_name_are_refused() -> None:
    twice = {**ROWS, "format": {"kind": "classification", "classes": ["yes", "yes"]}}
    with pytest.raises(ValidationError, match="same name"):
        FinetuneSpec.model_validate(changed(data={"train": [twice]}))
