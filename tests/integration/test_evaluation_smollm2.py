"""Evaluation and key measurement on the real SmolLM2."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steerline.analysis.infosteer.keys import measure_keys
from steerline.config.evaluation import EvaluationSpec
from steerline.config.model import ModelSpec
from steerline.data.batch import collate
from steerline.data.load import load_examples
from steerline.data.tokens import padding, tokenize_all
from steerline.evaluation.likelihood import score_options
from steerline.evaluation.tasks import evaluate
from steerline.models.load import LoadedModel, load_model

pytestmark = [pytest.mark.packaged, pytest.mark.slow]

SPEC = EvaluationSpec.model_validate(
    {
        "tasks": [
            {
                "name": "boolq",
                "dataset": {
                    "source": {"kind": "packaged", "name": "boolq-validation"},
                    "format": {"kind": "task", "task": "boolq"},
                    "limit": 60,
                },
            }
        ]
    }
)


@pytest.fixture(scope="module")
def smollm2() -> LoadedModel:
    source = {"kind": "packaged", "name": "smollm2-135m-instruct"}
    return load_model(ModelSpec.model_validate({"source": source}), dtype=torch.float32)


def test_shared_prompts_score_as_separate_ones(smollm2: LoadedModel) -> None:
    examples = load_examples(SPEC.tasks[0].dataset)[:12]
    shared, apart = (
        score_options(smollm2.model, smollm2.tokenizer, examples, share_prompt=share) for share in (True, False)
    )
    for a, b in zip(shared, apart, strict=True):
        assert a == pytest.approx(b, abs=5e-4)


def test_sixty_questions_are_answered_above_chance(smollm2: LoadedModel) -> None:
    result = evaluate(smollm2.model, smollm2.tokenizer, SPEC)
    interval = result.accuracy(result.tasks[0])
    assert result.tasks[0].chance == 0.5
    assert interval.high - interval.low < 0.3
    assert interval.mean > 0.5


def test_effective_memories_are_a_part_of_all_keys(smollm2: LoadedModel) -> None:
    rows = tokenize_all(load_examples(SPEC.tasks[0].dataset)[:16], smollm2.tokenizer, "all")
    batch = collate([(row,) for row in rows], pad_id=padding(smollm2.tokenizer))
    measured = measure_keys(smollm2.model, [batch])
    assert measured.num_keys == (1536,) * 30
    assert (measured.effective_memories > 100).all()
    assert (measured.effective_memories < 1400).all()
    middle = measured.histogram.quantile(0.5)
    assert np.abs(middle).max() < 0.1  # gated keys have both signs
