"""GGUF files as ordinary Hugging Face folders: dequantised, so that they train and save like any other model."""

from __future__ import annotations

import copy
import json
import struct
from pathlib import Path
from typing import Any

import torch

from steerline.errors import ModelError
from steerline.models.gguf_header import read_header


def convert(source: Path, folder: Path) -> str | None:
    """Write safetensors, config and tokenizer into `folder`, in fp32, which holds every dequantised value exactly.

    Returns:
        The licence that the file names.

    Raises:
        ModelError: the file is damaged or of an architecture that Transformers cannot read from GGUF.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        # Without `dequantize`, an installed `kernels` package would keep the weights packed.
        quantized = AutoModelForCausalLM.from_pretrained(
            **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
    except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError, struct.error) as error:
        raise ModelError(
            "the GGUF file cannot be turned into a Transformers model",
            where=str(source),
            got=error,
            fix="use the model's safetensors from the hub instead",
        ) from error
    # The loaded model still carries its quantizer, which refuses to save and to train: rebuild it without.
    config = copy.deepcopy(quantized.config)
    if "quantization_config" in config.to_dict():
        del config.quantization_config
    config.dtype = torch.float32
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantized.state_dict(), strict=True, assign=True)
    model.tie_weights()
    model.generation_config = quantized.generation_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _drop_foreign_tokens(folder, model.get_input_embeddings().num_embeddings)
    return read_header(source).licence


def _drop_foreign_tokens(folder: Path, vocab_size: int) -> None:
    """Remove tokens that the file does not hold: Transformers gives every byte-level GGUF tokenizer GPT-2's
    `<|endoftext|>` as unknown token, for which other models have no embedding."""
    path, config_path = folder / "tokenizer.json", folder / "tokenizer_config.json"
    tokenizer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    foreign = {token["content"] for token in tokenizer["added_tokens"] if token["id"] >= vocab_size}
    if not foreign:
        return
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] not in foreign]
    if tokenizer["model"].get("unk_token") in foreign:
        tokenizer["model"]["unk_token"] = None
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    config: dict[str, Any] = json.loads(config_path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in config.items() if not (isinstance(value, str) and value in foreign)}
    # With the class named, loading would add its default unknown token again.
    kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    config_path.write_text(json.dumps(kept, ensure_ascii=False, indent=2), encoding="utf-8")
