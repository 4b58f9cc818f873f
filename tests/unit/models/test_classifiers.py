"""Pretrained encoders and decoders as classifiers: their own body, a head that starts from the seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from steerline.config.model import LocalModel, ModelSpec, RandomModel
from steerline.errors import ModelError
from steerline.models.load import load_model
from tests.tiny import tiny_model, tiny_tokenizer

CLASSES = ("bad", "good", "odd")


def folder_of(family: str, folder: Path) -> ModelSpec:
    tiny_model(family).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return ModelSpec(source=LocalModel(kind="local", path=str(folder)))


def parts(model: PreTrainedModel) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights of the body and of the head."""
    state = model.state_dict()
    prefix = model.base_model_prefix + "."
    body = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return body, {name: value for name, value in state.items() if not name.startswith(prefix)}


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "llama", "gpt2"])
def test_a_pretrained_body_is_kept_and_the_head_depends_on_the_seed_alone(family: str, tmp_path: Path) -> None:
    spec = folder_of(family, tmp_path)
    before = torch.get_rng_state()
    first, again, other = (load_model(spec, classes=CLASSES, seed=seed).model for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.config.id2label == dict(enumerate(CLASSES))
    pretrained = parts(tiny_model(family))[0]
    for name, value in parts(first)[0].items():
        if not name.startswith("pooler"):
            assert torch.equal(value, pretrained[name]), name
    heads = [parts(model)[1] for model in (first, again, other)]
    assert heads[0]
    assert all(torch.equal(value, heads[1][name]) for name, value in heads[0].items())
    assert any(not torch.equal(value, heads[2][name]) for name, value in heads[0].items())


def test_a_body_with_missing_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    spec = folder_of("bert", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in weights if "attention.self.query" in name)
    save_file(
        {name: w for name, w in weights.items() if name != lost}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ModelError, match="incomplete"):
        load_model(spec, classes=CLASSES)


def test_an_architecture_without_a_classifier_is_refused() -> None:
    source = RandomModel(kind="random", architecture="blenderbot-small")
    with pytest.raises(ModelError, match="cannot be built"):
        load_model(ModelSpec(source=source), classes=CLASSES)
