"""Many strengths in one batch give what each gives alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from steerline.config.data import DatasetSpec, FileData, PromptAnswerFormat
from steerline.config.evaluation import EvaluationSpec, TaskEvaluation
from steerline.config.residual_scale import ResidualScaleSpec
from steerline.config.steering import BoostSpec, EntropySpec, SteeringSpec
from steerline.data.examples import Example
from steerline.evaluation.many_strengths import evaluate_many
from steerline.evaluation.results import EvaluationResult
from steerline.evaluation.tasks import evaluate
from steerline.steering.attach import attach
from tests.tiny import DECODER_FAMILIES, tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
DATASET = DatasetSpec(
    source=FileData(kind="file", path="none"), format=PromptAnswerFormat(kind="prompt_answer", prompt="", answer="")
)
# One-token options, options with branches, and prompts of several lengths.
EXAMPLES = [
    Example("a", "is it so? ", "true", choices=("true", "false"), label=0),
    Example("b", "and what of this, which is longer? ", "no", choices=("yes", "no"), label=1),
    Example("c", "x ", "bc", choices=("a", "bc", "def"), label=1),
    Example("d", "to be or ", "not", choices=("not", "nor"), label=0),
]
BOOST = BoostSpec(fraction=0.2, scale=2.0, select="magnitude", mean="abs", keep_sign=True, active_in="both")
STRENGTHS = (0.0, 0.25, 0.5, 1.0, 1.5)


@pytest.fixture(autouse=True)
def items(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("many_strengths", "tasks"):
        monkeypatch.setattr(f"steerline.evaluation.{module}.load_examples", lambda _: EXAMPLES)


def spec(**fields: Any) -> EvaluationSpec:
    method = fields.pop("method", "likelihood")
    task = TaskEvaluation(name="t", dataset=DATASET, normalise="tokens", method=method, max_new_tokens=3)
    return EvaluationSpec(tasks=(task,), num_bootstrap=100, **fields)


def points(**changes: Any) -> list[SteeringSpec]:
    return [SteeringSpec(boost=BOOST.model_copy(update={"strength": s, **changes})) for s in STRENGTHS]


def alone(model: torch.nn.Module, point: SteeringSpec, evaluation: EvaluationSpec) -> EvaluationResult:
    with attach(model, point) as attachment:
        attachment.phase = "eval"
        return evaluate(model, TOKENIZER, evaluation)


def scores(results: Sequence[EvaluationResult]) -> np.ndarray[Any, Any]:
    return np.array([[s for item in result.tasks[0].items for s in item.scores] for result in results])


@pytest.mark.parametrize("layers", ["all", (1,)])
@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_each_point_scores_as_in_a_pass_of_its_own(family: str, layers: Any) -> None:
    model = tiny_model(family, dtype=torch.float64)
    given = points(layers=layers)
    together = evaluate_many(model, TOKENIZER, spec(), given)
    apart = [alone(model, point, spec()) for point in given]
    np.testing.assert_allclose(scores(together), scores(apart), rtol=0, atol=1e-12)
    assert len({tuple(row) for row in scores(together).round(6)}) == len(STRENGTHS)


def test_strength_0_is_the_plain_evaluation() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    together = evaluate_many(model, TOKENIZER, spec(), points())
    plain = evaluate(model, TOKENIZER, spec())
    np.testing.assert_allclose(scores(together[:1]), scores([plain]), rtol=0, atol=1e-12)
    assert [item.prediction for item in together[0].tasks[0].items] == [i.prediction for i in plain.tasks[0].items]


@pytest.mark.parametrize("batch_tokens", [128, 512])
def test_chunks_do_not_matter(batch_tokens: int) -> None:
    model = tiny_model("llama", dtype=torch.float64)
    whole = evaluate_many(model, TOKENIZER, spec(batch_tokens=1 << 20), points())
    parts = evaluate_many(model, TOKENIZER, spec(batch_tokens=batch_tokens), points())
    np.testing.assert_allclose(scores(parts), scores(whole), rtol=0, atol=1e-12)


def rows_seen(model: torch.nn.Module, layer: int, given: Sequence[SteeringSpec]) -> int:
    seen = 0

    def count(_block: object, args: tuple[torch.Tensor, ...]) -> None:
        nonlocal seen
        seen += args[0].shape[0]

    handle = model.model.layers[layer].mlp.register_forward_pre_hook(count)  # type: ignore[union-attr, index, operator]
    evaluate_many(model, TOKENIZER, spec(), given)
    handle.remove()
    return seen


def test_layers_below_the_first_steered_one_run_once_for_all_points() -> None:
    model = tiny_model("llama")
    assert rows_seen(model, 0, points(layers=(1,))) == len(EXAMPLES)
    assert rows_seen(model, 1, points(layers=(1,))) == len(EXAMPLES) * len(STRENGTHS)


def test_points_that_come_to_the_same_are_computed_once() -> None:
    model = tiny_model("llama")
    same = [
        SteeringSpec(),
        SteeringSpec(boost=BOOST.model_copy(update={"strength": 0.0, "fraction": 0.9})),
        SteeringSpec(boost=BOOST.model_copy(update={"active_in": "train"})),
        SteeringSpec(entropy=EntropySpec()),
    ]
    assert rows_seen(model, 1, same) == len(EXAMPLES)
    assert len(set(evaluate_many(model, TOKENIZER, spec(), same))) == 1


def test_points_of_several_settings_come_back_in_their_order() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    mixed = [
        points()[3],
        points(fraction=0.5)[2],
        SteeringSpec(),
        points(layers=(0,))[3],
        points()[1],
        points(control="top_keys")[2],
    ]
    together = evaluate_many(model, TOKENIZER, spec(), mixed)
    apart = [alone(model, point, spec()) for point in mixed]
    np.testing.assert_allclose(scores(together), scores(apart), rtol=0, atol=1e-12)


@pytest.mark.parametrize("split", [False, True])
def test_residual_scales_share_a_batch_whatever_their_betas(split: bool) -> None:
    model = tiny_model("llama", dtype=torch.float64)
    given = [
        SteeringSpec(),
        *(
            SteeringSpec(residual_scale=ResidualScaleSpec(betas=betas, strength=strength, layers=(1,), split=split))
            for betas, strength in ((0.5, 1.0), (1.7, 1.0), ((1.7,), 0.5), (0.0, 0.25))
        ),
    ]
    together = evaluate_many(model, TOKENIZER, spec(), given)
    apart = [alone(model, point, spec()) for point in given]
    np.testing.assert_allclose(scores(together), scores(apart), rtol=0, atol=1e-12)
    assert rows_seen(model, 0, given) == len(EXAMPLES)


def test_a_boost_and_residual_scales_act_together() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    scales = ResidualScaleSpec(betas=(0.5, 1.5))
    given = [point.model_copy(update={"residual_scale": scales}) for point in points()]
    together = evaluate_many(model, TOKENIZER, spec(), given)
    apart = [alone(model, point, spec()) for point in given]
    np.testing.assert_allclose(scores(together), scores(apart), rtol=0, atol=1e-12)


@pytest.mark.parametrize("control", ["random_keys", "matched_noise"])
def test_placebos_draw_what_they_draw_alone(control: str) -> None:
    model = tiny_model("llama")
    given = points(control=control)
    together = evaluate_many(model, TOKENIZER, spec(), given)
    np.testing.assert_array_equal(scores(together), scores([alone(model, point, spec()) for point in given]))


@pytest.mark.parametrize(("steering", "active_in", "acts"), [("on", "train", True), ("off", "both", False)])
def test_whether_a_boost_acts_is_the_evaluations_to_say(steering: str, active_in: str, acts: bool) -> None:
    model = tiny_model("llama")
    plain, steered = evaluate_many(
        model, TOKENIZER, spec(steering=steering), [SteeringSpec(), points(active_in=active_in)[3]]
    )
    assert (scores([plain]) != scores([steered])).any() == acts


def test_generated_answers_are_those_of_passes_of_their_own() -> None:
    model = tiny_model("llama")
    given = points()
    together = evaluate_many(model, TOKENIZER, spec(method="generate"), given)
    assert together == [alone(model, point, spec(method="generate")) for point in given]


def test_progress_counts_an_item_once_for_each_distinct_point() -> None:
    seen: list[tuple[str, int, int]] = []
    model = tiny_model("llama")
    evaluate_many(model, TOKENIZER, spec(batch_tokens=128), points(), on_progress=lambda *report: seen.append(report))
    total = len(EXAMPLES) * len(STRENGTHS)
    assert seen[-1] == ("t", total, total)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_the_model_is_left_as_it_was() -> None:
    model = tiny_model("llama")
    model.train()
    evaluate_many(model, TOKENIZER, spec(), points())
    assert model.training
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
