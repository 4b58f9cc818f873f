"""SAFR's terms at their sites: what they measure, what they refuse, and that they leave the model as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from steerline.config.layer_selection import StrengthSchedule
from steerline.config.safr import ImportanceSpec, InteractionSpec, VmaskSpec
from steerline.config.steering import SteeringSpec
from steerline.data.batch import Batch, collate
from steerline.errors import SteeringError
from steerline.models.anatomy import Site, anatomy
from steerline.models.vmask import VmaskGate, save_gate
from steerline.steering import attach
from steerline.steering.attention_capture import AttentionCall, kernel_user, tap
from steerline.steering.capture_proof import CaptureProof
from steerline.steering.safr import importance_loss, interaction_loss
from steerline.steering.vmask_file import load_gate
from steerline.steering.vmask_site import per_sequence
from tests.law.conftest import packed, sample_rows
from tests.tiny import tiny_model

BATCH = collate(sample_rows()[:3], 0)
PACKED = collate(packed(sample_rows()[:4]), 0)


def terms(spec: SteeringSpec, batch: Batch = BATCH, *, step: int = 0, seed: int = 0) -> dict[str, float]:
    model = tiny_model("gpt2")
    with attach(model, spec, seed=seed) as attachment:
        attachment.start_step(step)
        with attachment.safr.recording(batch, train=True, measure=True) as recording:
            model(**batch.model_inputs(model.config))
        return {name: float(term.sum.detach()) for name, term in recording.terms().items()}


def embeddings(batch: Batch = BATCH) -> Tensor:
    vectors: Tensor = tiny_model("gpt2").get_input_embeddings()(batch.input_ids).detach()
    return vectors


@pytest.mark.parametrize("variant", ["reference", "masked", "cosine"])
def test_importance_at_the_embedding_is_the_public_loss_of_the_embeddings(variant: str) -> None:
    spec = SteeringSpec(importance=ImportanceSpec.model_validate({"variant": variant}))
    loss = importance_loss(embeddings(), BATCH.token_mask, None, variant)  # type: ignore[arg-type]
    count = BATCH.input_ids.numel() if variant == "reference" else int(BATCH.token_mask.sum())
    assert terms(spec)["importance"] / count == pytest.approx(float(loss), rel=1e-5)


def test_the_reference_interaction_is_that_of_the_whole_rows() -> None:
    model = tiny_model("gpt2", attention="eager")
    attentions = model(**BATCH.model_inputs(model.config), output_attentions=True).attentions
    expected = sum(float(interaction_loss(A.detach())) for A in attentions)
    found = terms(SteeringSpec(interaction=InteractionSpec(variant="reference")))["interaction"]
    assert found / BATCH.input_ids.numel() == pytest.approx(expected, rel=1e-5)


def test_only_the_chosen_layers_count() -> None:
    both = terms(SteeringSpec(importance=ImportanceSpec(site="block_out")))["importance"]
    one, other = (
        terms(SteeringSpec(importance=ImportanceSpec(site="block_out", layers=(n,))))["importance"] for n in (0, 1)
    )
    assert one + other == pytest.approx(both, rel=1e-6)


def test_strengths_follow_their_schedules_and_zero_skips_the_term() -> None:
    warm = StrengthSchedule(warmup_steps=4)
    spec = SteeringSpec(importance=ImportanceSpec(strength=2, schedule=warm))
    assert "importance" not in terms(spec, step=0)
    with attach(tiny_model("gpt2"), spec) as attachment:
        attachment.start_step(2)
        assert attachment.safr.strengths() == {"importance": 1.0}
        attachment.step = 0
        with attachment.at_full_strength():
            assert attachment.safr.strengths() == {"importance": 2.0}


def test_packed_examples_interfere_as_they_do_alone() -> None:
    spec = SteeringSpec(importance=ImportanceSpec(weights="vmask"), vmask=VmaskSpec(hidden_size=8))
    alone = terms(spec, collate(sample_rows()[:4], 0))
    assert terms(spec, PACKED) == {name: pytest.approx(value, rel=1e-5) for name, value in alone.items()}


def test_reference_formulas_refuse_packed_rows() -> None:
    with pytest.raises(SteeringError, match="takes a row for one example"):
        terms(SteeringSpec(importance=ImportanceSpec(variant="reference")), PACKED)


def test_gates_draw_by_seed_step_and_sample_and_by_nothing_else() -> None:
    spec = SteeringSpec(importance=ImportanceSpec(weights="vmask"), vmask=VmaskSpec(hidden_size=8))
    torch.manual_seed(1)
    first = terms(spec)["vmask_mean"]
    torch.manual_seed(2)
    assert terms(spec)["vmask_mean"] == first
    assert terms(spec, step=1)["vmask_mean"] != first


def test_a_gate_of_the_models_own_is_kept() -> None:
    model = tiny_model("gpt2")
    model.transformer.own = VmaskGate(32, 8)
    with attach(model, SteeringSpec(vmask=VmaskSpec(temperature=2.0, final_temperature=0.5))) as attachment:
        assert attachment.safr.vmask.added is None
        assert model.transformer.own.temperature == 2.0  # losses are balanced before the first step
        temperatures = []
        for step in (0, 2, 4):
            attachment.start_step(step, num_steps=5)
            temperatures.append(model.transformer.own.temperature)
    assert temperatures == pytest.approx([2.0, 1.0, 0.5])


def test_beta_falls_by_its_decrement_each_epoch_down_to_0() -> None:
    spec = SteeringSpec(vmask=VmaskSpec(hidden_size=8, entropy_strength=0.25, entropy_decrement=0.1))
    with attach(tiny_model("gpt2"), spec) as attachment:
        strengths = []
        for epoch in range(4):
            attachment.start_step(epoch, epoch)
            strengths.append(attachment.safr.strengths().get("vmask_entropy", 0.0))
    assert strengths == pytest.approx([-0.25, -0.15, -0.05, 0.0])


def test_a_gate_that_multiplies_changes_the_model_and_one_that_weighs_does_not() -> None:
    model = tiny_model("gpt2")
    plain = model(BATCH.input_ids).logits
    for apply, changes in (("weight", False), ("multiply", True)):
        spec = SteeringSpec(
            importance=ImportanceSpec(weights="vmask"),
            vmask=VmaskSpec.model_validate({"apply": apply, "hidden_size": 8}),
        )
        with attach(model, spec):
            assert torch.equal(model(BATCH.input_ids).logits, plain) is not changes
    assert torch.equal(model(BATCH.input_ids).logits, plain)


def test_a_saved_gate_gates_alike_when_it_is_loaded(tmp_path: Path) -> None:
    spec = SteeringSpec(vmask=VmaskSpec(apply="multiply", hidden_size=8))
    model = tiny_model("gpt2")
    with attach(model, spec, seed=1) as trained:
        gate = trained.safr.vmask.added
        assert gate is not None
        gate.eval()
        expected = model(BATCH.input_ids).logits
        save_gate(gate.state_dict(), tmp_path)
    with attach(model, spec, seed=2) as loaded:
        load_gate(loaded, tmp_path)
        assert torch.equal(model(BATCH.input_ids).logits, expected)


def test_weights_have_mean_1_in_every_example_and_0_on_padding() -> None:
    weights = torch.rand(PACKED.segment_ids.shape, generator=torch.Generator().manual_seed(0))
    scaled = per_sequence(weights, PACKED.segment_ids)
    for row, names in enumerate(PACKED.sample_ids):
        for number in range(1, len(names) + 1):
            assert float(scaled[row][PACKED.segment_ids[row] == number].mean()) == pytest.approx(1, rel=1e-6)
    assert float(scaled[PACKED.segment_ids == 0].abs().sum()) == 0
    assert float(per_sequence(torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.long)).sum()) == 0


def test_weights_from_a_missing_gate_are_refused_and_no_hook_stays() -> None:
    model = tiny_model("gpt2")
    with pytest.raises(SteeringError, match="there is none"):
        attach(model, SteeringSpec(importance=ImportanceSpec(weights="vmask"), interaction=InteractionSpec()))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_a_layer_that_does_not_exist_is_refused_and_no_tap_stays() -> None:
    model = tiny_model("gpt2")
    with pytest.raises(SteeringError, match="fewer layers"):
        attach(model, SteeringSpec(importance=ImportanceSpec(), interaction=InteractionSpec(layers=(0, 7))))
    assert not any(part._forward_hooks for part in model.modules())


def test_attention_without_the_interface_is_refused_with_the_layer() -> None:
    site = Site("attention", 3, "layers.3.attn", nn.MultiheadAttention(8, 2), "output", 8)
    with pytest.raises(SteeringError, match="cannot be recomputed") as caught:
        kernel_user(site, "own")
    assert caught.value.where == "layer 3 of own, layers.3.attn"
    assert caught.value.fix is not None


def test_attention_that_is_no_softmax_of_its_scores_is_refused() -> None:
    model = tiny_model("llama")
    site = anatomy(model).attention[0]
    calls: list[AttentionCall] = []
    one = tap(site, "llama", calls.append)
    model(**BATCH.model_inputs(model.config))
    one.remove()
    CaptureProof("llama").check(site, calls[0], BATCH.segment_ids)
    for wrong in (replace(calls[0], causal=False), replace(calls[0], scaling=0.1), replace(calls[0], window=2)):
        with pytest.raises(SteeringError, match="cannot be recomputed"):
            CaptureProof("llama").check(site, wrong, BATCH.segment_ids)


def test_taps_on_one_module_are_removed_in_any_order() -> None:
    model = tiny_model("llama")
    site = anatomy(model).attention[0]
    config = site.module.config
    seen: list[str] = []
    first = tap(site, "llama", lambda _: seen.append("first"))
    second = tap(site, "llama", lambda _: seen.append("second"))
    first.remove()
    first.remove()
    model(BATCH.input_ids)
    assert seen == ["second"]
    second.remove()
    assert site.module.config is config
    model(BATCH.input_ids)
    assert seen == ["second"]


def test_reentrant_checkpointing_is_refused() -> None:
    model = tiny_model("llama").train()
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": True})
    model.enable_input_require_grads()
    specs = SteeringSpec(importance=ImportanceSpec(site="ffn_keys")), SteeringSpec(interaction=InteractionSpec())
    for steering in specs:
        with (
            attach(model, steering) as attachment,
            attachment.safr.recording(BATCH, train=True),
            pytest.raises(SteeringError, match="reentrant"),
        ):
            model(**BATCH.model_inputs(model.config))


def test_a_second_forward_pass_in_one_recording_is_refused() -> None:
    model = tiny_model("gpt2")
    with (
        attach(model, SteeringSpec(interaction=InteractionSpec())) as attachment,
        attachment.safr.recording(BATCH, train=True),
    ):
        model(**BATCH.model_inputs(model.config))
        with pytest.raises(SteeringError, match="a second one came"):
            model(**BATCH.model_inputs(model.config))


def test_a_second_backward_pass_through_attention_is_refused() -> None:
    model = tiny_model("gpt2")
    with (
        attach(model, SteeringSpec(interaction=InteractionSpec())) as attachment,
        attachment.safr.recording(BATCH, train=True) as recording,
    ):
        model(**BATCH.model_inputs(model.config))
    total = recording.terms()["interaction"].sum
    total.backward(retain_graph=True)
    with pytest.raises(SteeringError, match="handed out already"):
        total.backward()


def test_a_row_of_padding_alone_and_a_single_token_give_0() -> None:
    spec = SteeringSpec(
        importance=ImportanceSpec(weights="vmask"),
        interaction=InteractionSpec(),
        vmask=VmaskSpec(hidden_size=8, entropy_strength=1),
    )
    idle = terms(spec, collate([], 0))
    assert idle == dict.fromkeys(("importance", "interaction", "vmask_entropy", "vmask_mean"), 0.0)
    example = sample_rows()[0][0]
    single = replace(example, input_ids=example.input_ids[:1], targets=example.targets[:1])
    found = terms(spec, collate([(single,)], 0))
    assert found["importance"] == found["interaction"] == 0
