"""What can be said of a model before it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steerline.config.model import HubModel, LocalModel, ModelSpec, PackagedModel, RandomModel
from steerline.models.facts import ModelFacts, model_facts
from steerline.models.load import load_model, prepare
from tests.tiny import DECODER_FAMILIES, MAX_POSITIONS, TINY_VOCAB, tiny_model, tiny_tokenizer
from tests.unit.models.files import CONTEXT, tiny_llama, write_gguf


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERLINE_CACHE", str(tmp_path / "cache"))


def local(path: Path) -> ModelSpec:
    return ModelSpec(source=LocalModel(kind="local", path=str(path)))


@pytest.mark.parametrize("family", DECODER_FAMILIES)
def test_a_folders_facts_are_those_of_the_model_in_it(family: str, tmp_path: Path) -> None:
    model = tiny_model(family, num_layers=3)
    model.save_pretrained(tmp_path / family)
    facts = model_facts(local(tmp_path / family))
    assert facts == ModelFacts(
        num_parameters=model.num_parameters(),
        num_layers=3,
        model_type=model.config.model_type,
        ffn_width=64,
        context=MAX_POSITIONS,
    )


def test_gpt2_leaves_its_ffn_width_out_where_it_is_four_times_the_hidden_size(tmp_path: Path) -> None:
    tiny_model("gpt2", n_inner=None).save_pretrained(tmp_path / "gpt2")
    assert model_facts(local(tmp_path / "gpt2")).ffn_width == 128


def test_the_licence_comes_from_the_model_card(tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "README.md").write_text("---\nlanguage: en\nlicense: 'apache-2.0'\n---\n# m\nlicense: no\n")
    assert model_facts(local(tmp_path / "m")).licence == "apache-2.0"


def test_a_gguf_file_tells_its_facts_before_and_after_conversion(tmp_path: Path) -> None:
    model = tiny_llama(TINY_VOCAB, tied=False)
    write_gguf(tmp_path / "tiny.gguf", model)
    before = model_facts(local(tmp_path / "tiny.gguf"))
    assert before == ModelFacts(model.num_parameters(), 2, "llama", 64, CONTEXT, licence="mit")
    prepare(local(tmp_path / "tiny.gguf"))
    after = model_facts(local(tmp_path / "tiny.gguf"))
    assert (after.num_parameters, after.num_layers, after.ffn_width, after.context) == (
        model.num_parameters(),
        2,
        64,
        CONTEXT,
    )
    assert after.licence == "mit"


@pytest.mark.parametrize(
    "source",
    [
        LocalModel(kind="local", path="/nowhere"),
        HubModel(kind="hub", id="steerline-tests/not-there"),
    ],
)
def test_nothing_is_known_of_a_model_that_is_not_here(source: Any) -> None:
    assert model_facts(ModelSpec(source=source)) == ModelFacts()


def test_the_licence_of_a_packaged_model_is_known_before_it_is_fetched() -> None:
    facts = model_facts(ModelSpec(source=PackagedModel(kind="packaged", name="smollm2-135m-instruct")))
    assert facts.num_parameters is None
    assert facts.licence is not None
    assert "Apache-2.0" in facts.licence


def test_a_random_models_facts_are_counted_without_its_weights() -> None:
    overrides = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    spec = ModelSpec(source=RandomModel(kind="random", architecture="llama", overrides=overrides))
    facts = model_facts(spec)
    assert facts.num_parameters == load_model(spec).model.num_parameters()
    assert (facts.num_layers, facts.ffn_width, facts.model_type) == (2, 48, "llama")


def test_a_folder_of_the_tokenizer_alone_has_no_facts(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path / "t")
    assert model_facts(local(tmp_path / "t")) == ModelFacts()
