"""What SAFR's terms must satisfy beyond the laws of every objective: other families, the classifier, LoRA."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from steerline.config.model import LoraSpec
from steerline.config.safr import ImportanceSpec, InteractionSpec, VmaskSpec
from steerline.config.steering import EntropySpec, SteeringSpec
from steerline.config.training import ObjectiveSpec
from steerline.data.batch import IGNORED, Batch, Row, collate
from steerline.models.lora import add_lora
from steerline.models.safr_classifier import SafrClassifierConfig
from steerline.training.job import Outcome
from steerline.training.normaliser import Normaliser
from steerline.training.objective import ObjectiveModel
from steerline.training.workers import Workers
from tests.law.conftest import same, sample_rows
from tests.law.runs import carry_out, losses, tiny_job
from tests.tiny import tiny_model

ROWS = sample_rows()
SAFR = SteeringSpec(
    importance=ImportanceSpec(strength=0.5, weights="vmask"),
    interaction=InteractionSpec(strength=0.5),
    vmask=VmaskSpec(hidden_size=16, entropy_strength=0.1),
)
SITES = {
    "embed": SAFR,
    "block_out": SteeringSpec(importance=ImportanceSpec(site="block_out", variant="cosine", center=True)),
    "ffn_keys": SteeringSpec(importance=ImportanceSpec(site="ffn_keys"), interaction=InteractionSpec(form="hidden")),
}


def classifier(dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    config = SafrClassifierConfig(
        vocab_size=264,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        vmask_hidden_size=16,
        dropout=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa")
    return model.to(dtype)  # type: ignore[no-any-return]


def classes(batch: Batch) -> Batch:
    """The batch with a class for each row, at its last token."""
    labels = torch.full_like(batch.labels, IGNORED)
    for row, names in enumerate(batch.sample_ids):
        last = int(batch.token_mask[row].nonzero().max())
        labels[row, last] = int(names[0].removeprefix("e")) % 2
    return replace(batch, labels=labels)


def split(rows: list[Row], size: int, multiple: int = 8) -> list[Batch]:
    return [collate(rows[i : i + size], 0, multiple) for i in range(0, len(rows), size)]


def one_step(module: ObjectiveModel, batches: list[Batch]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    module.zero_grad()
    normaliser = Normaliser.over(batches, Workers())
    total = torch.zeros((), dtype=torch.float64)
    for batch in batches:
        output = module(batch, normaliser)
        output.total.backward()
        total += output.total.detach()
    return total, {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def assert_slope(module: ObjectiveModel, batches: list[Batch], step: float, tolerance: float) -> None:
    """The gradient is that of finite differences along itself."""
    _, grads = one_step(module, batches)
    direction = {name: grad / grad.norm() for name, grad in grads.items() if grad.norm() > 1e-9}
    normaliser = Normaliser.over(batches, Workers())
    values = []
    with torch.no_grad():
        for by in (step, -2 * step):
            for name, parameter in module.named_parameters():
                if name in direction:
                    parameter.add_(direction[name], alpha=by)
            values.append(torch.stack([module(batch, normaliser).total for batch in batches]).sum())
    slope = sum(float((grads[name] * towards).sum()) for name, towards in direction.items())
    assert float(values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=tolerance)


@pytest.mark.parametrize("family", ["llama", "opt", "phi"])
@pytest.mark.parametrize("site", SITES)
def test_the_gradient_is_that_of_finite_differences(family: str, site: str) -> None:
    # Llama's norms compute in float32 whatever the model's type is.
    step, tolerance = (1e-4, 5e-3) if family == "llama" else (1e-6, 1e-5)
    module = ObjectiveModel(tiny_model(family, dtype=torch.float64), ObjectiveSpec(steering=SITES[site]), seed=1)
    assert_slope(module.eval(), split(ROWS, 4), step, tolerance)


@pytest.mark.parametrize("site", SITES)
def test_the_classifiers_gradient_is_that_of_finite_differences(site: str) -> None:
    spec = ObjectiveSpec(kind="classification", steering=SITES[site])
    module = ObjectiveModel(classifier(), spec, seed=1)
    assert_slope(module.eval(), [classes(batch) for batch in split(ROWS, 4)], 1e-6, 1e-5)


@pytest.mark.parametrize("how", [(1, 8), (3, 8), (8, 64)])
def test_neither_split_nor_padding_change_what_the_classifier_learns_with_hard_gates(how: tuple[int, int]) -> None:
    spec = ObjectiveSpec(kind="classification", steering=SAFR)
    expected = one_step(ObjectiveModel(classifier(), spec, seed=1).train(), [classes(b) for b in split(ROWS, 8)])
    found = one_step(ObjectiveModel(classifier(), spec, seed=1).train(), [classes(b) for b in split(ROWS, *how)])
    torch.testing.assert_close(found[0], expected[0], rtol=1e-10, atol=0)
    same(moving(found[1]), moving(expected[1]), 1e-9)


def moving(grads: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without the key biases, which a softmax does not see: their gradient is rounding alone."""
    return {name: grad for name, grad in grads.items() if not name.endswith("k_proj.bias")}


@pytest.mark.parametrize("how", [(1, 8), (8, 64)])
def test_neither_split_nor_padding_matter_where_gradients_weigh_tokens(how: tuple[int, int]) -> None:
    weights = ImportanceSpec(weights="gradient_x_input", site="block_out")
    spec = ObjectiveSpec(steering=SteeringSpec(importance=weights))
    results = []
    for batches in (split(ROWS, 4), split(ROWS, *how)):
        module = ObjectiveModel(tiny_model("gpt2", dtype=torch.float64), spec)
        results.append(one_step(module, batches))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-10, atol=0)
    same(results[1][1], results[0][1], 1e-9)


def test_weights_by_gradients_survive_activation_checkpointing() -> None:
    weights = ImportanceSpec(weights="gradient_x_input", site="ffn_keys")
    spec = ObjectiveSpec(steering=SteeringSpec(importance=weights))
    results = []
    for checkpointed in (False, True):
        model = tiny_model("llama").train()
        if checkpointed:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        results.append(one_step(ObjectiveModel(model, spec), split(ROWS, 4)))
    assert torch.equal(results[0][0], results[1][0])
    same(results[1][1], results[0][1], 0.0)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_lora_trains_under_the_terms_of_the_model_it_wraps(family: str) -> None:
    spec = ObjectiveSpec(steering=SAFR.model_copy(update={"entropy": EntropySpec()}))
    expected, _ = one_step(ObjectiveModel(tiny_model(family), spec, seed=1), split(ROWS, 4))
    adapted = add_lora(tiny_model(family), LoraSpec(rank=2), seed=0)
    loss, grads = one_step(ObjectiveModel(adapted, spec, seed=1), split(ROWS, 4))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    assert all("lora" in name or name.startswith("gate.") for name in grads)
    assert any(name.startswith("gate.") for name in grads)


def test_a_gate_that_only_weighs_trains_without_changing_the_model_bit_for_bit() -> None:
    gate = SteeringSpec(vmask=VmaskSpec(hidden_size=16, entropy_strength=1))
    _, plain = one_step(ObjectiveModel(tiny_model("gpt2"), ObjectiveSpec()), split(ROWS, 4))
    _, gated = one_step(ObjectiveModel(tiny_model("gpt2"), ObjectiveSpec(steering=gate)), split(ROWS, 4))
    assert all(torch.equal(gated.pop(name), grad) for name, grad in plain.items())
    assert gated
    assert all(name.startswith("gate.") for name in gated)


@pytest.mark.parametrize("name", ["importance", "interaction"])
def test_evaluation_measures_the_terms_but_does_not_add_them(name: str) -> None:
    module = ObjectiveModel(tiny_model("gpt2"), ObjectiveSpec(steering=SAFR), seed=1).eval()
    batch = collate(ROWS, 0)
    normaliser = Normaliser.over([batch], Workers())
    trained: Any = module(batch, normaliser)
    module.steering.phase = "eval"
    with torch.no_grad():
        measured: Any = module(batch, normaliser, measure=True)
    torch.testing.assert_close(measured.terms[name].sum, trained.terms[name].sum)
    assert float(measured.total) == pytest.approx(float(measured.terms["ce"].sum / measured.terms["ce"].count))
    assert 0 < float(measured.terms["vmask_mean"].sum / measured.terms["vmask_mean"].count) < 1


@pytest.mark.usefixtures("process_group")
def test_a_run_with_a_gate_and_balanced_terms_goes_on_exactly(tmp_path: Path) -> None:
    objective = {
        "steering": {
            "importance": {"strength": 0.2, "weights": "vmask"},
            "interaction": {"strength": 0.2},
            "vmask": {"hidden_size": 8, "entropy_strength": 0.1, "final_temperature": 0.5},
        },
        "balance": {},
    }
    whole, halved = (tiny_job(tmp_path / name, objective=objective) for name in ("whole", "halved"))
    carry_out(whole)
    carry_out(halved, stop_after=3)
    carry_out(halved)
    expected, found = losses(whole), losses(halved)
    assert found.keys() == expected.keys()
    for name, steps in expected.items():
        assert found[name] == pytest.approx(steps, rel=1e-6), name
    state = json.loads((whole.checkpoints / "step-000006" / "state.json").read_text())
    assert set(state["objective_state"]["balance"]) == {"importance", "interaction", "vmask_entropy"}


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("apply", ["multiply", "weight"])
def test_an_added_gate_is_exported_where_the_model_needs_it(tmp_path: Path, apply: str) -> None:
    steering = {"importance": {"weights": "vmask"}, "vmask": {"hidden_size": 8, "apply": apply}}
    job = tiny_job(tmp_path, objective={"steering": steering}, training__num_steps=1)
    outcome, said = carry_out(job)
    assert isinstance(outcome, Outcome), said
    assert (job.export / "vmask.safetensors").is_file() is (apply == "multiply")
    assert "VMASK gate" in (job.export / "README.md").read_text()
