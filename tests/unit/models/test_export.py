"""An export is an ordinary model folder that computes, bit for bit, what the trained model computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from steerline.config.model import LocalModel, LoraSpec, ModelSpec
from steerline.errors import ModelError
from steerline.models.anatomy import anatomy
from steerline.models.card import ModelCard
from steerline.models.export import check_manifest, export_model
from steerline.models.load import load_model
from steerline.models.lora import add_lora
from steerline.models.verify import PROMPTS, probe_logits, verify_export, verify_logits
from tests.tiny import DECODER_FAMILIES, tiny_model, tiny_tokenizer
from tests.unit.models.files import logits_of

CARD = ModelCard(
    name="run-0123456789",
    base_model="org/base@abc123",
    base_licence="apache-2.0",
    config_hash="f" * 64,
    run_id="run-id",
    step=40,
    precision="bf16",
    data={"boolq-train": "d" * 64},
    steering={"boost": {"strength": 1.0}, "entropy": None},
    metrics={"eval/boolq/accuracy": 0.625},
    parents=("models:/base/1",),
)


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_an_export_reloads_with_equal_logits(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    report = export_model(None, model, tiny_tokenizer(), tmp_path / "out", CARD)
    assert verify_export(model, tmp_path / "out", tiny_tokenizer()) == 0.0
    assert report.num_parameters == model.num_parameters()
    assert not report.merged_lora


def test_the_exported_weights_are_those_of_the_state_dict_and_not_of_the_model(tmp_path: Path) -> None:
    trained, untouched = tiny_model("llama", seed=1), tiny_model("llama", seed=0)
    export_model(trained.state_dict(), untouched, tiny_tokenizer(), tmp_path / "out", CARD)
    assert verify_export(trained, tmp_path / "out", tiny_tokenizer()) == 0.0
    assert torch.equal(logits_of(untouched), logits_of(tiny_model("llama", seed=0)))


def test_a_model_whose_own_weights_are_partitioned_away_can_be_exported(tmp_path: Path) -> None:
    trained = tiny_model("llama")
    state = {name: value.clone() for name, value in trained.state_dict().items()}
    partitioned = tiny_model("llama")
    for parameter in partitioned.parameters():
        parameter.data = torch.empty(0)
    export_model(state, partitioned, tiny_tokenizer(), tmp_path / "out", CARD)
    assert verify_export(trained, tmp_path / "out", tiny_tokenizer()) == 0.0


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "llama"])
@pytest.mark.parametrize("copies", [1, 2])
def test_a_weight_shared_by_embedding_and_head_is_saved_once(family: str, copies: int, tmp_path: Path) -> None:
    model = tiny_model(family, tie_word_embeddings=True)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    if copies == 1:
        del state["lm_head.weight"]
    report = export_model(state, model, tiny_tokenizer(), tmp_path / "out", CARD)
    assert verify_export(model, tmp_path / "out", tiny_tokenizer()) == 0.0
    assert report.num_parameters == model.num_parameters()
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < 4 * model.num_parameters() + 20_000


def test_master_weights_are_saved_in_the_precision_of_training(tmp_path: Path) -> None:
    master = tiny_model("llama")
    export_model(master.state_dict(), master, tiny_tokenizer(), tmp_path / "out", CARD, dtype=torch.bfloat16)
    trained_in = tiny_model("llama", dtype=torch.bfloat16)
    assert verify_export(trained_in, tmp_path / "out", tiny_tokenizer()) == 0.0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    assert master.dtype == torch.float32


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_lora_export_is_merged_and_keeps_its_adapter_beside(family: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model = add_lora(tiny_model(family), LoraSpec(rank=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    before = logits_of(model)
    report = export_model(model.state_dict(), model, tiny_tokenizer(), tmp_path / "out", CARD)
    assert report.merged_lora
    assert 0 < verify_export(model, tmp_path / "out", tiny_tokenizer()) < 1e-4  # rounding alone
    assert torch.equal(logits_of(model), before)
    adapted = PeftModel.from_pretrained(tiny_model(family), tmp_path / "out" / "adapter")
    assert torch.equal(logits_of(adapted), before)
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == CARD.base_model


def test_an_objective_around_the_model_is_seen_through(tmp_path: Path) -> None:
    model = tiny_model("llama")
    export_model(None, nn.ModuleDict({"policy": model}), tiny_tokenizer(), tmp_path / "out", CARD)
    assert verify_export(model, tmp_path / "out", tiny_tokenizer()) == 0.0


def test_an_export_loads_as_the_base_of_the_next_run(tmp_path: Path) -> None:
    model = tiny_model("llama")
    export_model(None, model, tiny_tokenizer(), tmp_path / "out", CARD)
    loaded = load_model(ModelSpec(source=LocalModel(kind="local", path=str(tmp_path / "out"))))
    assert torch.equal(logits_of(loaded.model), logits_of(model))
    chat = [{"role": "user", "content": "hi"}]
    assert loaded.tokenizer.apply_chat_template(chat) == tiny_tokenizer().apply_chat_template(chat)


def test_the_folder_records_lineage_and_no_path_of_this_machine(tmp_path: Path) -> None:
    report = export_model(None, tiny_model("llama"), tiny_tokenizer(), tmp_path / "out", CARD)
    out = report.folder
    provenance = json.loads((out / "steerline.json").read_text())
    assert provenance["steering"] == CARD.steering
    assert provenance["data"] == {"boolq-train": "d" * 64}
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["base_model"] == "org/base"
    assert front["license_name"] == "apache-2.0"
    for part in ("run-id", "f" * 64, "d" * 64, '"strength": 1.0', "0.625", "models:/base/1"):
        assert part in card
    for path in out.iterdir():
        if path.suffix in (".json", ".md"):
            assert str(tmp_path) not in path.read_text(encoding="utf-8")
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= set(report.files)
    assert report.num_bytes == sum((out / name).stat().st_size for name in report.files)


def test_a_card_without_steering_licence_or_run_says_so() -> None:
    text = ModelCard(name="n", base_model="some package", config_hash="h").markdown(adapter=False)
    assert "without steering" in text
    assert "not known: check before passing the weights on" in text
    assert "base_model" not in yaml.safe_load(text.split("---")[1])


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_an_altered_file_of_the_export_is_detected(damage: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = tiny_model("llama")
    export_model(None, model, tiny_tokenizer(), out, CARD)
    check_manifest(out)
    weights = out / "model.safetensors"
    data = bytearray(weights.read_bytes())
    if damage == "remove":
        weights.unlink()
    else:
        data[-5] ^= 1
        weights.write_bytes(data if damage == "flip" else data[:-4])
    with pytest.raises(ModelError, match="missing or altered") as error:
        verify_export(model, out, tiny_tokenizer())
    assert error.value.got == "model.safetensors"


def test_an_export_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    export_model(None, tiny_model("llama", seed=1), tiny_tokenizer(), tmp_path / "out", CARD)
    with pytest.raises(ModelError, match="does not compute"):
        verify_export(tiny_model("llama", seed=0), tmp_path / "out", tiny_tokenizer())


def test_steering_left_on_the_model_shows_in_the_comparison(tmp_path: Path) -> None:
    model = tiny_model("llama")
    export_model(None, model, tiny_tokenizer(), tmp_path / "out", CARD)
    site = anatomy(model).ffn_keys[0]
    handle = site.module.register_forward_pre_hook(lambda _, args: (args[0] * 1.01,))
    with pytest.raises(ModelError, match="does not compute"):
        verify_export(model, tmp_path / "out", tiny_tokenizer())
    handle.remove()
    assert verify_export(model, tmp_path / "out", tiny_tokenizer()) == 0.0


def test_logits_that_are_not_numbers_fail_the_comparison(tmp_path: Path) -> None:
    model = tiny_model("llama")
    export_model(None, model, tiny_tokenizer(), tmp_path / "out", CARD)
    broken = tuple(rows * float("nan") for rows in probe_logits(model, tiny_tokenizer()))
    with pytest.raises(ModelError, match="does not compute"):
        verify_logits(broken, tmp_path / "out", dtype=torch.float32)


def test_probing_covers_eight_prompts_and_leaves_the_mode_as_it_was() -> None:
    model = tiny_model("llama").train()
    logits = probe_logits(model, tiny_tokenizer())
    assert model.training
    assert [rows.shape[0] for rows in logits] == [len(prompt.encode()) for prompt in PROMPTS]
    assert len(logits) == 8


def test_an_existing_folder_is_replaced_only_on_request(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_model(None, tiny_model("llama", seed=0), tiny_tokenizer(), out, CARD)
    with pytest.raises(ModelError, match="already something"):
        export_model(None, tiny_model("llama", seed=1), tiny_tokenizer(), out, CARD)
    assert verify_export(tiny_model("llama", seed=0), out, tiny_tokenizer()) == 0.0
    export_model(None, tiny_model("llama", seed=1), tiny_tokenizer(), out, CARD, replace=True)
    assert verify_export(tiny_model("llama", seed=1), out, tiny_tokenizer()) == 0.0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("change", ["drop", "prefix"])
def test_weights_of_another_model_are_refused_and_leave_nothing_behind(change: str, tmp_path: Path) -> None:
    model = tiny_model("llama")
    state: dict[str, Any] = dict(model.state_dict())
    if change == "drop":
        del state["model.layers.0.mlp.down_proj.weight"]
    else:
        state = {f"module.{name}": value for name, value in state.items()}
    with pytest.raises(ModelError, match="not this model's"):
        export_model(state, model, tiny_tokenizer(), tmp_path / "out", CARD)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_replacement_keeps_the_old_export(tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = tiny_model("llama")
    export_model(None, model, tiny_tokenizer(), out, CARD)
    with pytest.raises(ModelError):
        export_model({}, model, tiny_tokenizer(), out, CARD, replace=True)
    assert verify_export(model, out, tiny_tokenizer()) == 0.0
