"""Checks of the model and the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steerline.config.model import LoraSpec
from steerline.data.archives import member_path
from steerline.data.packaged import CATALOGUE
from steerline.models.converted import packaged_folder
from steerline.orchestration.preflight.model_facts import ModelFacts
from tests.tiny import TINY_VOCAB
from tests.unit.models.files import CONTEXT, tiny_llama, write_gguf
from tests.unit.orchestration.preflight_scenes import find, job, model_folder, only, write_safetensors


def local(path: Path) -> str:
    return f"model.source={{kind: local, path: {path}}}"


def test_a_whole_model_folder_passes(tmp_path: Path) -> None:
    assert find("model", job(tmp_path, local(model_folder(tmp_path / "m")))) == []


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in only(find("model", job(tmp_path, local(tmp_path / "gone"))), fatal=True)


@pytest.mark.parametrize(
    ("file", "text"),
    [("config.json", "no config.json"), ("tokenizer.json", "no tokenizer"), ("model.safetensors", "no weights")],
)
def test_a_missing_part_is_named(tmp_path: Path, file: str, text: str) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / file).unlink()
    assert text in only(find("model", job(tmp_path, local(folder))), fatal=True)


def test_pickles_are_refused_with_a_way_out(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"x")
    text = only(find("model", job(tmp_path, local(folder))), fatal=True)
    assert "pytorch_model.bin" in text
    assert "safetensors" in text


def test_pickles_beside_safetensors_do_not_matter(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "training_args.bin").write_bytes(b"x")
    assert find("model", job(tmp_path, local(folder))) == []


def test_weights_that_are_cut_short_or_only_a_pointer_are_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert "its header speaks of" in only(find("model", job(tmp_path, local(folder))), fatal=True)
    file.write_bytes(whole[:20])
    assert "cut short" in only(find("model", job(tmp_path, local(folder))), fatal=True)
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "Git LFS pointer" in only(find("model", job(tmp_path, local(folder))), fatal=True)
    file.write_bytes(b"")
    assert "cut short" in only(find("model", job(tmp_path, local(folder))), fatal=True)


def test_a_single_file_is_a_gguf_or_nothing(tmp_path: Path) -> None:
    gguf = tmp_path / "m.gguf"
    gguf.write_bytes(b"GGUF")
    assert find("model", job(tmp_path, local(gguf))) == []
    other = tmp_path / "m.bin"
    other.write_bytes(b"x")
    assert "can only be a GGUF" in only(find("model", job(tmp_path, local(other))), fatal=True)


def test_a_gguf_file_that_is_not_converted_yet_has_its_depth_length_and_memory_judged(tmp_path: Path) -> None:
    llama = tiny_llama(TINY_VOCAB, tied=False)
    write_gguf(tmp_path / "m.gguf", llama)
    source = local(tmp_path / "m.gguf")
    beyond = job(tmp_path, source, "objective.steering.entropy.layers=[0, 7]")
    assert "the model has 2 layers" in only(find("steering", beyond), fatal=True)
    too_long = job(tmp_path, source, "data.max_length_tokens=100")
    assert f"at most {CONTEXT}" in only(find("length", too_long), fatal=False)
    facts = ModelFacts.of(job(tmp_path, source).model)
    assert facts.num_parameters == facts.num_trained(None) == llama.num_parameters()
    # The file's weights have other names than the model's, so adapters cannot be counted from it.
    assert facts.num_trained(LoraSpec()) is None


def test_a_packaged_gguf_file_is_judged_as_soon_as_it_was_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERLINE_CACHE", str(tmp_path / "cache"))
    spec = job(tmp_path, "model.source={kind: packaged, name: smollm2-135m-instruct}").model
    assert ModelFacts.of(spec).num_layers is None
    file = member_path(CATALOGUE["smollm2-135m-instruct"], tmp_path / "cache")
    file.parent.mkdir(parents=True)
    write_gguf(file, tiny_llama(TINY_VOCAB, tied=False))
    assert ModelFacts.of(spec).num_layers == 2
    # Once it is converted, the folder tells more.
    model_folder(packaged_folder(CATALOGUE["smollm2-135m-instruct"]))
    assert ModelFacts.of(spec).num_layers == 4


def test_an_archive_with_an_unsafe_member_is_left_to_whoever_fetches_it(tmp_path: Path) -> None:
    archive = "{package: p, version: '1', member: ../m.gguf, sha256: '" + "0" * 64 + "'}"
    spec = job(tmp_path, f"model.source={{kind: packaged, archive: {archive}}}").model
    assert ModelFacts.of(spec) == ModelFacts()


def test_a_hub_model_is_cached_or_the_network_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    spec = job(tmp_path, "model.source={kind: hub, id: some/model}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "hf download some/model" in only(find("model", spec), fatal=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert find("model", spec) == []
    snapshot = model_folder(tmp_path / "hub" / "models--some--model" / "snapshots" / ("0" * 40))
    refs = tmp_path / "hub" / "models--some--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find("model", spec) == []
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.pt").write_bytes(b"x")
    assert "pickles" in only(find("model", spec), fatal=True)


def test_an_unknown_catalogue_name_names_the_nearest(tmp_path: Path) -> None:
    spec = job(tmp_path, "model.source={kind: packaged, name: smollm2-135m-instrct}")
    assert "did you mean `smollm2-135m-instruct`?" in only(find("model", spec), fatal=True)
    assert find("model", job(tmp_path, "model.source={kind: packaged, name: smollm2-135m-instruct}")) == []
    spec = job(tmp_path, "data.train.0.source={kind: packaged, name: boolq-trian}")
    assert "did you mean `boolq-train`?" in only(find("data", spec), fatal=True)


def test_flash_attention_needs_a_gpu_and_rows_of_its_own_for_packing(tmp_path: Path) -> None:
    assert find("attention", job(tmp_path, "data.packing=true")) == []
    flash = "model.attention=flash_attention_2"
    assert "GPUs only" in only(find("attention", job(tmp_path, flash)), fatal=True)
    assert find("attention", job(tmp_path, flash, "cluster.use_gpu=true")) == []
    packed = [flash, "cluster.use_gpu=true", "data.packing=true"]
    assert "micro batches of one row" in only(find("attention", job(tmp_path, *packed)), fatal=True)
    assert find("attention", job(tmp_path, *packed, "training.micro_batch_size=1")) == []


@pytest.mark.parametrize(("family", "fatal"), [("gpt2", True), ("llama", False)])
def test_sequences_longer_than_the_models_are_reported(tmp_path: Path, family: str, fatal: bool) -> None:
    name = "n_positions" if family == "gpt2" else "max_position_embeddings"
    source = f"model.source={{kind: random, architecture: {family}, overrides: {{{name}: 128}}}}"
    assert "at most 128" in only(find("length", job(tmp_path, source)), fatal=fatal)
    assert find("length", job(tmp_path, source, "data.max_length_tokens=128")) == []


def test_the_models_files_tell_its_size(tmp_path: Path) -> None:
    shapes = {"model.embed_tokens.weight": (100, 8), "model.layers.0.mlp.up.weight": (16, 8), "model.norm.weight": (8,)}
    folder = model_folder(tmp_path / "m", shapes, num_hidden_layers=1)
    write_safetensors(folder / "model-2.safetensors", {"lm_head.weight": (100, 8)})
    facts = ModelFacts.of(job(tmp_path, local(folder)).model)
    assert facts.num_parameters == 800 + 128 + 8 + 800
    assert facts.num_layers == 1
    assert facts.num_trained(None) == facts.num_parameters
    assert facts.num_trained(LoraSpec(rank=2)) == 2 * (16 + 8)
    assert facts.num_trained(LoraSpec(rank=2, target_modules=("lm_head",))) == 2 * 108


def test_the_depth_of_a_model_of_several_modalities_is_its_language_parts(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": {"num_hidden_layers": 26}}))
    assert ModelFacts.of(job(tmp_path, local(folder)).model).num_layers == 26


def data(path: Path | str, format_: str = "{kind: text}") -> str:
    return f"data.train.0={{source: {{kind: file, path: '{path}'}}, format: {format_}}}"


def test_data_files_exist_or_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    assert find("data", job(tmp_path, data(tmp_path / "a.jsonl"))) == []
    assert find("data", job(tmp_path, data(tmp_path / "*.jsonl"))) == []
    assert "gone.jsonl" in only(find("data", job(tmp_path, data(tmp_path / "gone.jsonl"))), fatal=True)
    assert "*.csv" in only(find("data", job(tmp_path, data(tmp_path / "*.csv"))), fatal=True)


PROMPT = '{kind: prompt_answer, prompt: "{question} {options[0]}\\n", answer: "{label}"}'


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "folder"])
@pytest.mark.parametrize(
    ("format_", "missing"),
    [
        ("{kind: text, text: question}", None),
        ("{kind: text}", "no column `text`"),
        ("{kind: chat, messages: turns}", "no column `turns`"),
        (PROMPT, "no column `label`"),
        ("{kind: task, task: boolq}", None),
    ],
)
def test_columns_that_a_template_names_are_there(
    tmp_path: Path, suffix: str, format_: str, missing: str | None
) -> None:
    path = tmp_path / f"rows.{suffix}"
    if suffix == "jsonl":
        path.write_text('\n{"question": "a", "options": ["b"]}\n')
    elif suffix == "csv":
        path.write_text("question,options\na,b\n")
    elif suffix == "parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"question": ["a"], "options": [["b"]]}), path)
    else:
        path.mkdir()
        (path / "dataset_info.json").write_text(json.dumps({"features": {"question": {}, "options": {}}}))
    found = find("columns", job(tmp_path, data(path, format_)))
    if missing is None:
        assert found == []
    else:
        text = only(found, fatal=True)
        assert missing in text
        assert "question, options" in text


@pytest.mark.parametrize(("name", "text"), [("a.jsonl", ""), ("a.jsonl", "{oops"), ("a.jsonl", "[1]"), ("a.csv", "")])
def test_a_file_whose_first_row_cannot_be_read_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert "cannot be read" in only(find("columns", job(tmp_path, data(tmp_path / name))), fatal=True)


def test_a_broken_template_is_refused(tmp_path: Path) -> None:
    spec = job(tmp_path, data("x.jsonl", '{kind: prompt_answer, prompt: "{question", answer: "a"}'))
    assert "a template cannot be read" in only(find("columns", spec), fatal=True)
