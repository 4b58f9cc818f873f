"""The model card of an export: what it is, what it was made from, and how to make it again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from steerline import __version__
from steerline.models.vmask import GATE_FILE


@dataclass(frozen=True)
class ModelCard:
    """Lineage of an exported model.

    Args:
        name: of the run, which is also the card's title.
        base_model: what was fine-tuned, in one line (`steerline.models.sources.describe`).
        base_licence: licence of the base model's weights, where known.
        config_hash: identity hash of the run's config.
        run_id: MLflow run that trained it; none outside tracking.
        step: optimiser step whose weights these are.
        precision: of the training forward pass; the saved weights have it too.
        data: name of each training set and its digest.
        steering: the resolved SteeringSpec the model was trained under; None for plain fine-tuning.
        metrics: numbers to show, e.g. `eval/boolq/accuracy`.
        parents: references this model was derived from, e.g. a checkpoint.
        classes: names of the classes that a classifier tells apart; none for a language model.
        gate: what became of a VMASK gate that was added for training; none where there was none.
    """

    name: str
    base_model: str
    config_hash: str
    base_licence: str | None = None
    run_id: str | None = None
    step: int | None = None
    precision: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    steering: Mapping[str, Any] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    gate: Literal["saved", "left out"] | None = None

    def provenance(self) -> dict[str, Any]:
        """The card as plain data, for `steerline.json`."""
        return {
            "steerline_version": __version__,
            "name": self.name,
            "base_model": self.base_model,
            "base_licence": self.base_licence,
            "run_id": self.run_id,
            "config_hash": self.config_hash,
            "step": self.step,
            "precision": self.precision,
            "data": dict(self.data),
            "metrics": dict(self.metrics),
            "parents": list(self.parents),
            "steering": None if self.steering is None else dict(self.steering),
            "classes": None if self.classes is None else list(self.classes),
            "gate": self.gate,
        }

    def markdown(self, *, adapter: bool) -> str:
        """README.md with the front matter that the Hugging Face hub reads."""
        parts = [_front_matter(self), f"# {self.name}", _opening(self), _table(self)]
        if self.data:
            rows = [f"| {name} | `{digest}` |" for name, digest in self.data.items()]
            parts.append("\n".join(["## Training data", "", "| data set | digest |", "|---|---|", *rows]))
        if self.steering is not None:
            spec = json.dumps(self.steering, indent=2)
            parts.append(f"## Steering during training\n\n```json\n{spec}\n```\n\n{_STEERING_NOTE}")
        if self.gate is not None:
            parts.append(_GATE_NOTES[self.gate])
        if self.metrics:
            rows = [f"| {name} | {value:.4g} |" for name, value in self.metrics.items()]
            parts.append("\n".join(["## Measured", "", "| metric | value |", "|---|---|", *rows]))
        if adapter:
            parts.append("The weights here include the LoRA adapter; the adapter alone lies in `adapter/`.")
        parts.append(_LANGUAGE_MODEL if self.classes is None else _CLASSIFIER)
        return "\n\n".join(parts) + "\n"


_STEERING_NOTE = (
    "The weights need none of it to be loaded: they are an ordinary model. `steerline.json` records the same spec, so"
    " that it can be attached again for evaluation or serving."
)

_GATE_NOTES = {
    "saved": (
        f"The model was trained with a VMASK gate on its embeddings. `{GATE_FILE}` holds it; without it the model"
        " computes something else: `steerline.steering.vmask_file.load_gate` puts it back."
    ),
    "left out": "A VMASK gate weighed tokens in the training loss. It never touched the model, and is not part of it.",
}

_LANGUAGE_MODEL = """## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
```"""

_CLASSIFIER = """## Use

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import steerline.models.safr_classifier  # only where config.json says `safr_classifier`

model = AutoModelForSequenceClassification.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
```"""


def _front_matter(card: ModelCard) -> str:
    task = "text-generation" if card.classes is None else "text-classification"
    values: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": task}
    hub_id = re.fullmatch(r"([\w.-]+/[\w.-]+)@\S+", card.base_model)
    if hub_id:
        values["base_model"] = hub_id.group(1)
    if card.base_licence is not None:
        # The hub takes only its own short names, so the licence as found stands beside `other`.
        values |= {"license": "other", "license_name": card.base_licence}
    values["tags"] = ["steerline"]
    return "---\n" + yaml.safe_dump(values, sort_keys=False).strip() + "\n---"


def _opening(card: ModelCard) -> str:
    steered = "under steering (below)" if card.steering is not None else "without steering"
    return f"Fine-tuned from {card.base_model} {steered} with Steerline {__version__}."


def _table(card: ModelCard) -> str:
    rows = {
        "base model": card.base_model,
        "licence of the base": card.base_licence or "not known: check before passing the weights on",
        "MLflow run": card.run_id or "none",
        "config hash": card.config_hash,
        "optimiser step": "not recorded" if card.step is None else str(card.step),
        "precision": card.precision or "not recorded",
        "derived from": ", ".join(card.parents) or "the base model alone",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["## Lineage", "", "| | |", "|---|---|", *lines])
