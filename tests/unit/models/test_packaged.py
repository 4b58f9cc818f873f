"""The two real models that registry packages carry. Skipped where neither cache nor registry has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from steerline.config.model import ModelSpec, PackagedModel
from steerline.errors import FetchError
from steerline.models import anatomy as anatomy_module
from steerline.models.anatomy import anatomy
from steerline.models.card import ModelCard
from steerline.models.export import export_model
from steerline.models.facts import model_facts
from steerline.models.load import LoadedModel, load_model, prepare
from steerline.models.proof import prove
from steerline.models.verify import verify_export

pytestmark = pytest.mark.packaged


def spec_of(name: str) -> ModelSpec:
    spec = ModelSpec(source=PackagedModel(kind="packaged", name=name))
    try:
        prepare(spec)
    except FetchError as error:
        pytest.skip(f"no cached {name}, and its registry cannot be reached: {error.what}")
    return spec


def greedy(loaded: LoadedModel, prompt: str, num_tokens: int) -> str:
    ids = loaded.tokenizer(prompt, return_tensors="pt").input_ids
    out = loaded.model.generate(ids, max_new_tokens=num_tokens, do_sample=False)
    return str(loaded.tokenizer.decode(out[0, ids.shape[1] :]))


@pytest.fixture(scope="module")
def smollm2() -> LoadedModel:
    return load_model(spec_of("smollm2-135m-instruct"))


@pytest.fixture(scope="module")
def stories() -> LoadedModel:
    return load_model(spec_of("stories15m"))


def test_smollm2_answers_and_has_its_chat_template(smollm2: LoadedModel) -> None:
    assert greedy(smollm2, "The capital of France is", 2) == " Paris."
    text = smollm2.tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert text.endswith("<|im_start|>user\nhi<|im_end|>\n")


def test_stories15m_tells_a_story(stories: LoadedModel) -> None:
    expected = ", there was a little girl named Lily. She loved to play outside"
    assert greedy(stories, "Once upon a time", 15) == expected


@pytest.mark.parametrize(("name", "layers", "keys", "width"), [("smollm2", 30, 1536, 576), ("stories", 6, 768, 288)])
def test_the_sites_of_a_real_model_are_proved_by_table_and_by_structure(
    name: str, layers: int, keys: int, width: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = request.getfixturevalue(name).model
    found = anatomy(model)
    assert (found.num_layers, found.ffn_keys[0].width, found.embed.width) == (layers, keys, width)
    prove(model, found)
    monkeypatch.setattr(anatomy_module, "FAMILIES", {})
    assert anatomy(model) == found


def test_smollm2s_keys_times_its_value_matrix_are_the_ffns_output(smollm2: LoadedModel) -> None:
    site = anatomy(smollm2.model).ffn_keys[17]
    seen: list[torch.Tensor] = []
    handle = site.module.register_forward_hook(lambda _, args, output: seen.extend([args[0], output]))
    with torch.no_grad():
        smollm2.model(input_ids=torch.arange(100, 116).unsqueeze(0))
    handle.remove()
    torch.testing.assert_close(seen[1], seen[0] @ site.module.get_parameter("weight").T)


def test_a_dequantised_model_is_an_ordinary_one_that_trains_and_saves(smollm2: LoadedModel, tmp_path: Path) -> None:
    model = smollm2.model
    assert "quantization_config" not in model.config.to_dict()
    assert all(parameter.requires_grad for parameter in model.parameters())
    card = ModelCard(name="t", base_model="smollm2", config_hash="h")
    report = export_model(None, model, smollm2.tokenizer, tmp_path / "out", card)
    assert report.num_parameters == 134_515_008
    assert verify_export(model, tmp_path / "out", smollm2.tokenizer) == 0.0


def test_facts_of_a_packaged_model_are_read_without_loading_it() -> None:
    facts = model_facts(spec_of("smollm2-135m-instruct"))
    assert (facts.num_parameters, facts.num_layers, facts.ffn_width) == (134_515_008, 30, 1536)
    assert facts.licence is not None
    assert facts.licence.startswith("Apache-2.0")
