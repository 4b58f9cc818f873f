"""Models from every kind of source, and everything that is refused with the way out."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from steerline.config.model import HubModel, LocalModel, ModelSpec, RandomModel
from steerline.errors import ModelError
from steerline.models.byte_tokenizer import byte_tokenizer
from steerline.models.convert import convert_once
from steerline.models.converted import SOURCE_FILE, packaged_folder
from steerline.models.load import load_model, load_tokenizer, local_folder, prepare
from tests.tiny import TINY_VOCAB, tiny_model, tiny_tokenizer
from tests.unit.models.files import logits_of, sentence_pieces, tiny_llama, write_gguf, write_llama2c

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEERLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def local(path: Path, **more: Any) -> ModelSpec:
    return ModelSpec(source=LocalModel(kind="local", path=str(path)), **more)


def random(**more: Any) -> ModelSpec:
    return ModelSpec(source=RandomModel(kind="random", architecture="llama", overrides=TINY, **more))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    tiny_model("llama").save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def test_a_local_folder_loads_its_weights_in_eval_mode(folder: Path) -> None:
    loaded = load_model(local(folder))
    assert torch.equal(logits_of(loaded.model), logits_of(tiny_model("llama")))
    assert not loaded.model.training
    assert loaded.tokenizer.get_vocab() == tiny_tokenizer().get_vocab()
    assert local_folder(local(folder)) == folder


def test_weights_are_loaded_in_the_precision_asked_for(folder: Path) -> None:
    model = load_model(local(folder), dtype=torch.bfloat16).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_the_attention_kernel_is_the_one_of_the_config(folder: Path) -> None:
    assert load_model(local(folder, attention="eager")).model.config._attn_implementation == "eager"


def test_a_kernel_that_the_architecture_lacks_names_the_setting(tmp_path: Path) -> None:
    tiny_model("gemma2").save_pretrained(tmp_path / "gemma2")
    tiny_tokenizer().save_pretrained(tmp_path / "gemma2")
    with pytest.raises(ModelError, match="attention: sdpa") as error:
        load_model(local(tmp_path / "gemma2"))
    assert error.value.fix == "set model.attention: eager"
    load_model(local(tmp_path / "gemma2", attention="eager"))


def test_pickled_weights_are_refused_without_being_read(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(tiny_model("llama").state_dict(), folder / "pytorch_model.bin")
    for refuse in (prepare, load_model):
        with pytest.raises(ModelError, match="pickled weights") as error:
            refuse(local(folder))
        assert error.value.got == "pytorch_model.bin"
        assert "save_pretrained" in str(error.value.fix)


def test_a_folder_without_weights_or_without_config_says_what_is_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        load_model(local(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match="not a Hugging Face model"):
        load_model(local(folder))
    with pytest.raises(ModelError, match="no such model"):
        load_model(local(folder / "nowhere"))


def test_weights_that_lack_a_layer_are_refused_rather_than_filled_with_random_numbers(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="incomplete") as error:
        load_model(local(folder))
    assert error.value.got == "model.layers.1.mlp.down_proj.weight"


def test_a_truncated_file_of_weights_is_a_model_error(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError):
        load_model(local(folder))


def test_an_unknown_architecture_is_answered_with_near_ones(folder: Path) -> None:
    _edit_config(folder, model_type="lama")
    with pytest.raises(ModelError, match="does not know this architecture") as error:
        load_model(local(folder))
    assert "llama" in str(error.value.expected)


def test_code_from_the_models_folder_is_not_run_unless_the_config_says_so(folder: Path) -> None:
    trap = folder.parent / "was_run"
    (folder / "modeling_own.py").write_text(f"open({str(trap)!r}, 'w')\n")
    _edit_config(folder, model_type="own", auto_map={"AutoConfig": "modeling_own.OwnConfig"})
    with pytest.raises(ModelError, match="Python code from its own repository") as error:
        load_model(local(folder))
    assert "trust_remote_code: true" in str(error.value.fix)
    assert not trap.exists()


def test_a_known_architecture_is_loaded_with_its_own_code_even_where_the_folder_brings_some(folder: Path) -> None:
    trap = folder.parent / "was_run"
    (folder / "modeling_own.py").write_text(f"open({str(trap)!r}, 'w')\n")
    _edit_config(folder, auto_map={"AutoModelForCausalLM": "modeling_own.Own"})
    load_model(local(folder))
    assert not trap.exists()


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(tmp_path: Path) -> None:
    tiny_model("llama", vocab=128).save_pretrained(tmp_path / "small")
    tiny_tokenizer().save_pretrained(tmp_path / "small")
    with pytest.raises(ModelError, match="belongs to another one") as error:
        load_model(local(tmp_path / "small"))
    assert error.value.got == "260 tokens, 128 embeddings"


def test_a_model_without_tokenizer_is_refused(tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path / "bare")
    with pytest.raises(ModelError, match="tokenizer cannot be loaded"):
        load_model(local(tmp_path / "bare"))


def test_an_encoder_is_not_a_causal_model(tmp_path: Path) -> None:
    tiny_model("bert").save_pretrained(tmp_path / "bert")
    tiny_tokenizer().save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match="is an encoder"):
        load_model(local(tmp_path / "bert"))


def test_a_tokenizer_without_padding_pads_with_end_of_text_and_adds_no_token(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    loaded = load_tokenizer(local(folder))
    assert loaded.pad_token == loaded.eos_token
    assert len(loaded) == len(tokenizer)


def test_a_hub_model_that_is_not_cached_says_so_offline() -> None:
    spec = ModelSpec(source=HubModel(kind="hub", id="steerline-tests/not-there"))
    assert local_folder(spec) is None
    with pytest.raises(ModelError, match="hub cannot be reached") as error:
        load_model(spec)
    assert "smollm2-135m-instruct" in str(error.value.fix)


def test_a_gguf_file_becomes_a_plain_trainable_model_with_the_same_logits(tmp_path: Path) -> None:
    source = tiny_llama(TINY_VOCAB, tied=False)
    path = tmp_path / "tiny.gguf"
    write_gguf(path, source)
    assert local_folder(local(path)) is None
    loaded = load_model(local(path))
    torch.testing.assert_close(logits_of(loaded.model), logits_of(source), rtol=1e-5, atol=1e-5)
    assert "quantization_config" not in json.loads((_converted(path) / "config.json").read_text())
    loaded.model(input_ids=torch.ones(1, 2, dtype=torch.long)).logits.sum().backward()
    loaded.model.save_pretrained(tmp_path / "saved")
    text = "Hello <eos> that wörld"
    assert loaded.tokenizer.decode(loaded.tokenizer(text, add_special_tokens=False).input_ids) == text
    assert loaded.tokenizer("a<eos>", add_special_tokens=False).input_ids[-1] == 2


def _converted(path: Path) -> Path:
    found = local_folder(local(path))
    assert found is not None
    return found


def test_a_changed_gguf_file_is_converted_anew(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, tiny_llama(TINY_VOCAB, tied=False))
    prepare(local(path))
    first = _converted(path)
    path.write_bytes(path.read_bytes() + b"\0")
    assert local_folder(local(path)) is None
    prepare(local(path))
    assert _converted(path) != first


def test_a_damaged_gguf_file_leaves_nothing_in_the_cache(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, tiny_llama(TINY_VOCAB, tied=False))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelError):
        prepare(local(path))
    path.write_bytes(b"not a model at all")
    with pytest.raises(ModelError, match="not GGUF"):
        prepare(local(path))
    assert [entry for entry in (cache / "models").iterdir() if entry.is_dir()] == []


def test_a_llama2c_checkpoint_becomes_a_llama_with_the_same_logits(tmp_path: Path) -> None:
    pieces, scores = sentence_pieces()
    source = tiny_llama(len(pieces), tied=True)
    path = tmp_path / "tiny.bin"
    write_llama2c(path, source, pieces, scores)
    loaded = load_model(local(path))
    assert torch.equal(logits_of(loaded.model), logits_of(source))
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight


def test_a_llama2c_tokenizer_merges_the_best_score_first_and_falls_back_to_bytes(tmp_path: Path) -> None:
    pieces, scores = sentence_pieces()
    path = tmp_path / "tiny.bin"
    write_llama2c(path, tiny_llama(len(pieces), tied=True), pieces, scores)
    tokenizer = load_tokenizer(local(path))
    # `bc` scores above `ab`, and `a` + `bc` is a way to `abc`.
    assert tokenizer.convert_ids_to_tokens(tokenizer("bcab").input_ids) == ["<s>", "▁", "bc", "ab"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("abc").input_ids) == ["<s>", "▁", "abc"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("é").input_ids) == ["<s>", "▁", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokenizer("abc é a").input_ids, skip_special_tokens=True) == "abc é a"


@pytest.mark.parametrize("data", [b"", b"short", struct.pack("<7i", 32, 64, 2, 5, 2, 100, 64), b"\xff" * 4096])
def test_bytes_that_are_no_checkpoint_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(data)
    with pytest.raises(ModelError, match=r"not a llama2\.c checkpoint"):
        prepare(local(tmp_path / "x.bin"))


def test_a_llama2c_file_cut_off_before_its_tokenizer_is_refused(tmp_path: Path) -> None:
    pieces, scores = sentence_pieces()
    path = tmp_path / "tiny.bin"
    write_llama2c(path, tiny_llama(len(pieces), tied=True), pieces, scores)
    whole = path.read_bytes()
    for size in (len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"not a llama2\.c checkpoint"):
            prepare(local(path))


def test_a_conversion_is_made_once_and_an_interrupted_one_is_not_seen(tmp_path: Path, cache: Path) -> None:
    pieces, scores = sentence_pieces()
    path = tmp_path / "tiny.bin"
    write_llama2c(path, tiny_llama(len(pieces), tied=True), pieces, scores)
    folder = cache / "models" / "once"
    calls: list[int] = []

    def source() -> Path:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return path

    with pytest.raises(KeyboardInterrupt):
        convert_once(source, folder, {})
    assert not folder.exists()
    convert_once(source, folder, {"licence": "mit"})
    convert_once(source, folder, {})
    assert len(calls) == 2
    assert json.loads((folder / SOURCE_FILE).read_text()) == {"licence": "mit"}
    assert [entry.name for entry in folder.parent.iterdir() if entry.is_dir()] == ["once"]


def test_the_cache_keeps_members_of_one_package_apart() -> None:
    from steerline.config.archive import ArchiveSpec

    archive = ArchiveSpec(package="p", version="1", member="a.gguf", sha256="0" * 64)
    other = archive.model_copy(update={"member": "b.gguf"})
    assert packaged_folder(archive) != packaged_folder(other)


def test_a_random_model_is_the_same_for_the_same_seed_and_leaves_the_global_state_alone() -> None:
    state = torch.get_rng_state()
    first, again = load_model(random()).model, load_model(random()).model
    other = load_model(random(seed=1)).model
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(logits_of(first), logits_of(again))
    assert not torch.equal(logits_of(first), logits_of(other))


def test_a_random_model_gets_a_byte_tokenizer_and_a_vocabulary_that_fits_it() -> None:
    loaded = load_model(random())
    embedding = loaded.model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    assert len(loaded.tokenizer) == 260
    assert embedding.num_embeddings == 264
    assert loaded.model.config.eos_token_id == loaded.tokenizer.eos_token_id
    assert local_folder(random()) is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"architecture": "lama"}, "llama"),
        ({"architecture": "llama", "overrides": {"hiden_size": 32}}, "did you mean `hidden_size`?"),
        ({"architecture": "llama", "overrides": {"hidden_size": 30, "num_attention_heads": 4}}, "do not fit together"),
        ({"architecture": "llama", "overrides": TINY, "tokenizer": "/nowhere"}, "model.source.tokenizer"),
        ({"architecture": "vit", "overrides": {}}, "cannot be built"),
    ],
)
def test_an_impossible_random_model_is_explained(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as error:
        load_model(ModelSpec(source=RandomModel(kind="random", **source)))
    assert message in str(error.value)


def test_the_byte_tokenizer_round_trips_any_text() -> None:
    tokenizer = byte_tokenizer()
    text = "".join(chr(code) for code in range(1, 0x250)) + "日本語🙂\n\t  x"
    ids = tokenizer(text).input_ids
    assert ids == [4 + byte for byte in text.encode()]
    assert tokenizer.decode(ids) == text
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert chat == "<user>\nhi<eos>\n"


def _edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
