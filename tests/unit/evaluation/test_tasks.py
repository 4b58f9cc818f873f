from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steerline.config.evaluation import EvaluationSpec
from steerline.errors import DataError, EvaluationError
from steerline.evaluation.results import merge
from steerline.evaluation.tasks import evaluate
from tests.tiny import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


@pytest.fixture
def boolq(tmp_path: Path) -> dict[str, Any]:
    rows = [{"question": f"is {i} even", "passage": "p", "answer": i % 2 == 0} for i in range(11)]
    path = tmp_path / "boolq.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return {"source": {"kind": "file", "path": str(path)}, "format": {"kind": "task", "task": "boolq"}}


@pytest.fixture
def qa(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "qa.jsonl"
    path.write_text("\n".join(json.dumps({"q": f"say {i}", "a": str(i)}) for i in range(3)))
    return {
        "source": {"kind": "file", "path": str(path)},
        "format": {"kind": "prompt_answer", "prompt": "{q}\n", "answer": "{a}"},
    }


def spec(*tasks: dict[str, Any], **more: Any) -> EvaluationSpec:
    return EvaluationSpec.model_validate({"tasks": tasks, **more})


def test_tasks_of_both_methods_are_judged_item_by_item(boolq: dict[str, Any], qa: dict[str, Any]) -> None:
    model = tiny_model("llama")
    result = evaluate(
        model,
        TOKENIZER,
        spec(
            {"name": "boolq", "dataset": boolq},
            {"name": "qa", "dataset": qa, "method": "generate", "max_new_tokens": 4, "group": "ood"},
            steering="off",
        ),
    )
    first, second = result.tasks
    assert first.complete
    assert second.complete
    assert (first.chance, second.chance) == (0.5, None)
    assert (first.group, second.group) == ("id", "ood")
    assert result.steering == "off"
    for item in first.items:
        assert item.prediction == ("true", "false")[int(np.argmax(item.scores))]
        assert item.correct == (item.prediction == item.answer)
        assert item.text is None
    assert first.items[0].answer == "true"
    assert all(item.text == item.prediction and item.scores == () for item in second.items)


def test_shares_of_three_workers_merge_into_the_result_of_one(boolq: dict[str, Any], qa: dict[str, Any]) -> None:
    model = tiny_model("llama", dtype=torch.float64)
    wanted = spec(
        {"name": "boolq", "dataset": boolq},
        {"name": "qa", "dataset": qa, "method": "generate", "max_new_tokens": 4},
    )
    whole = evaluate(model, TOKENIZER, wanted)
    merged = merge([evaluate(model, TOKENIZER, wanted, rank=rank, world_size=4) for rank in range(4)])
    assert [task.digest for task in merged.tasks] == [task.digest for task in whole.tasks]
    for ours, theirs in zip(merged.tasks, whole.tasks, strict=True):
        for a, b in zip(ours.items, theirs.items, strict=True):
            assert (a.index, a.id, a.prediction, a.correct, a.text) == (b.index, b.id, b.prediction, b.correct, b.text)
            assert a.scores == pytest.approx(b.scores)


def test_limit_and_seed_choose_the_same_items_again(boolq: dict[str, Any]) -> None:
    model = tiny_model("llama")
    limited = spec({"name": "boolq", "dataset": {**boolq, "limit": 5, "seed": 3}})
    a, b = (evaluate(model, TOKENIZER, limited) for _ in range(2))
    assert a == b
    assert a.tasks[0].num_items == 5


def test_the_model_is_in_eval_mode_meanwhile_and_training_again_afterwards(boolq: dict[str, Any]) -> None:
    model = tiny_model("llama")
    model.train()
    modes: list[bool] = []
    handle = model.model.norm.register_forward_hook(lambda module, _args, _out: modes.append(module.training))
    evaluate(model, TOKENIZER, spec({"name": "boolq", "dataset": boolq}))
    handle.remove()
    assert not any(modes)
    assert model.training


def test_progress_names_the_task_and_ends_complete(boolq: dict[str, Any], qa: dict[str, Any]) -> None:
    seen: list[tuple[str, int, int]] = []
    evaluate(
        tiny_model("llama"),
        TOKENIZER,
        spec(
            {"name": "boolq", "dataset": boolq},
            {"name": "qa", "dataset": qa, "method": "generate", "max_new_tokens": 2},
            batch_tokens=128,
        ),
        on_progress=lambda *state: seen.append(state),
    )
    assert ("boolq", 11, 11) in seen
    assert seen[-1] == ("qa", 3, 3)


def test_a_hook_that_steers_the_model_acts_on_both_methods(boolq: dict[str, Any], qa: dict[str, Any]) -> None:
    model = tiny_model("llama")
    wanted = spec(
        {"name": "boolq", "dataset": boolq},
        {"name": "qa", "dataset": qa, "method": "generate", "max_new_tokens": 8},
    )
    plain = evaluate(model, TOKENIZER, wanted)
    handle = model.model.layers[0].mlp.down_proj.register_forward_pre_hook(lambda _module, args: (args[0] * 3,))
    steered = evaluate(model, TOKENIZER, wanted)
    handle.remove()
    assert steered.tasks[0].items[0].scores != plain.tasks[0].items[0].scores
    assert [item.text for item in steered.tasks[1].items] != [item.text for item in plain.tasks[1].items]
    assert evaluate(model, TOKENIZER, wanted) == plain


def test_impossible_evaluations_are_refused(boolq: dict[str, Any], qa: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model("llama")
    with pytest.raises(EvaluationError, match="nothing to evaluate"):
        evaluate(model, TOKENIZER, spec())
    with pytest.raises(EvaluationError, match="needs a prompt, choices"):
        evaluate(model, TOKENIZER, spec({"name": "qa", "dataset": qa}))
    with pytest.raises(EvaluationError, match="impossible rank"):
        evaluate(model, TOKENIZER, spec({"name": "a", "dataset": boolq}), rank=2, world_size=2)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(DataError):
        evaluate(
            model, TOKENIZER, spec({"name": "a", "dataset": {**boolq, "source": {"kind": "file", "path": str(empty)}}})
        )
