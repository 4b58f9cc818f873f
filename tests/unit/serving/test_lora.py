"""Weights of the registry: whole models, and adapters over a served base."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from steerline.config.inference import LocalBackendSpec, SamplingSpec
from steerline.config.model import LoraSpec
from steerline.config.serving import ServingSpec
from steerline.errors import ModelError
from steerline.inference import engine
from steerline.inference.backends.local import LocalBackend
from steerline.inference.request import GenRequest
from steerline.inference.row_adapters import Tokens, tokens_of
from steerline.models.adapter import Adapter
from steerline.models.card import ModelCard
from steerline.models.export import export_model
from steerline.models.lora import add_lora
from steerline.serving.lora import weights_of
from steerline.serving.models import ServedModels
from steerline.serving.registry import RegisteredModels, Room
from steerline.serving.versions import RegistryAccess, Versions
from steerline.tracking.registry import Registered
from tests.adapters import save_adapter
from tests.tiny import tiny_model, tiny_tokenizer

PROMPTS = ("one", "two and three", "a longer prompt of some words")


def base_in(folder: Path) -> LocalBackendSpec:
    """A served base, from a folder."""
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return LocalBackendSpec.model_validate({"model": {"source": {"kind": "local", "path": str(folder)}}})


def adapter_of(base: LocalBackendSpec, folder: Path, name: str | None = None) -> Path:
    """An export of a model with an adapter that changes its answers; the adapter lies in its folder `adapter`."""
    adapted = add_lora(tiny_model("llama"), LoraSpec(rank=4, target_modules=("q_proj", "v_proj", "down_proj")))
    with torch.no_grad():
        for parameter_name, parameter in adapted.named_parameters():
            if "lora_B" in parameter_name:
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    source = base.model.source
    card = ModelCard("run", name or getattr(source, "path", ""), "hash")
    export_model(None, adapted, tiny_tokenizer(), folder, card)
    return folder


def loaded(
    version: Registered,
    served: Mapping[str, LocalBackendSpec],
    fetch: Callable[[Registered], AbstractContextManager[Path]],
) -> LocalBackend:
    with weights_of(version, served, {}, "float32", fetch) as weights:
        backend = weights.load()
    assert isinstance(backend, LocalBackend)
    return backend


def version(folder: Path) -> Registered:
    return Registered("tuned", "3", None, str(folder))


def nowhere(version: Registered) -> AbstractContextManager[Path]:
    raise AssertionError("what is on this machine is not fetched")


def request(model: str, prompt: str) -> GenRequest:
    return GenRequest(model, prompt=prompt, sampling=SamplingSpec(max_tokens=8))


def texts(backend: LocalBackend) -> list[str]:
    async def ask() -> list[str]:
        results = await backend.generate([request("m", prompt) for prompt in PROMPTS])
        await backend.close()
        assert all(result.failure is None for result in results)
        return [result.text for result in results]

    return asyncio.run(ask())


def test_an_adapter_over_its_base_writes_what_the_merged_model_writes(tmp_path: Path) -> None:
    base = base_in(tmp_path / "base")
    export = adapter_of(base, tmp_path / "export")
    merged = texts(loaded(version(export), {}, nowhere))
    adapted = texts(loaded(version(export / "adapter"), {"base": base}, nowhere))
    plain = texts(LocalBackend.open(base))
    assert adapted == merged != plain


def test_an_adapter_of_another_base_is_refused_and_its_name_is_not_opened(tmp_path: Path) -> None:
    base = base_in(tmp_path / "base")
    export = adapter_of(base, tmp_path / "export", "https://example.org/base")
    with pytest.raises(ModelError, match="base") as raised:
        loaded(version(export / "adapter"), {"base": base}, nowhere)
    assert raised.value.got == "https://example.org/base"


def test_pickled_altered_and_missing_weights_are_refused(tmp_path: Path) -> None:
    base = base_in(tmp_path / "base")
    adapter = adapter_of(base, tmp_path / "export") / "adapter"
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        loaded(version(adapter), {"base": base}, nowhere)
    with pytest.raises(ModelError, match="altered"):
        loaded(version(tmp_path / "export"), {}, nowhere)


def test_weights_that_are_not_on_this_machine_are_fetched(tmp_path: Path) -> None:
    base = base_in(tmp_path / "base")
    missing = version(tmp_path / "nothing")
    fetched = loaded(missing, {}, lambda _: nullcontext(tmp_path / "base"))
    assert texts(fetched) == texts(LocalBackend.open(base))
    with pytest.raises(ModelError, match="neither on this machine nor in MLflow"):
        loaded(missing, {}, lambda _: nullcontext(tmp_path))


def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    base = base_in(tmp_path / "base")
    adapter = adapter_of(base, tmp_path / "export") / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "r": 2}))
    with pytest.raises(ModelError, match="fit"):
        loaded(version(adapter), {"base": base}, nowhere)


def test_the_memory_of_weights_is_known_before_they_are_loaded(tmp_path: Path) -> None:
    base = base_in(tmp_path / "base")
    adapter = adapter_of(base, tmp_path / "export") / "adapter"
    numbers = sum(parameter.numel() for parameter in tiny_model("llama").parameters())
    with weights_of(version(tmp_path / "base"), {}, {}, "bfloat16", nowhere) as whole:
        assert whole.size == 2 * numbers
    with weights_of(version(adapter), {"base": base}, {}, "bfloat16", nowhere) as merged:
        assert merged.size == 4 * numbers
    own = sum(tensor.numel() for tensor in load_file(adapter / "adapter_model.safetensors").values())
    resident = {"base": LocalBackend.open(base)}
    with weights_of(version(adapter), {"base": base}, resident, "bfloat16", nowhere) as beside:
        assert beside.size == 2 * 4 * own


def test_an_adapter_answers_from_its_base_in_the_same_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_in(tmp_path / "base")
    export = adapter_of(base, tmp_path / "export")
    wanted = texts(loaded(version(export), {}, nowhere)), texts(LocalBackend.open(base))
    passes: list[set[bool]] = []

    def noted(adapters: Sequence[Adapter | None], *rest: Any) -> Tokens:
        passes.append({adapter is None for adapter in adapters})
        return tokens_of(adapters, *rest)

    monkeypatch.setattr(engine, "tokens_of", noted)
    resident = LocalBackend.open(base)
    weights = partial(
        weights_of, served={"base": base}, resident={"base": resident}, precision="float32", fetch=nowhere
    )
    access = RegistryAccess(lambda _: version(export / "adapter"), lambda _: {})
    registered = RegisteredModels(Versions(("tuned",), access), weights, Room(1))
    models = ServedModels(ServingSpec(tracking=None), {"base": resident}, registered)

    async def ask() -> list[str]:
        await models.generate([request("models:/tuned/3", PROMPTS[0])])
        asked = [request(name, prompt) for prompt in PROMPTS for name in ("models:/tuned/3", "base")]
        results = await models.generate(asked)
        await models.close()
        return [result.text for result in results]

    found = asyncio.run(ask())
    assert (found[::2], found[1::2]) == wanted
    assert {True, False} in passes


def test_an_adapter_that_is_no_plain_product_is_merged_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = base_in(tmp_path / "base")
    adapter = save_adapter(tiny_model("llama"), tmp_path / "dora", use_dora=True)
    config = json.loads((adapter / "adapter_config.json").read_text())
    source = str(tmp_path / "base")
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": source}))
    with caplog.at_level("INFO", "steerline.serving"):
        resident = {"base": LocalBackend.open(base)}
        with weights_of(version(adapter), {"base": base}, resident, "float32", nowhere) as weights:
            assert isinstance(weights.load(), LocalBackend)
    assert "use_dora" in caplog.text
