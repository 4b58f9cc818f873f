"""Tiny models written in the formats that packages carry, for the tests of their conversion."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steerline.models.byte_tokenizer import SPECIAL_TOKENS, byte_tokenizer
from tests.tiny import tiny_model

HEADS, KV_HEADS, LAYERS, CONTEXT = 4, 2, 2, 64


def tiny_llama(vocab: int, *, tied: bool) -> Any:
    sizes = {"max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5}
    return tiny_model("llama", num_layers=LAYERS, vocab=vocab, tie_word_embeddings=tied, **sizes)


def interleaved(weight: Tensor, heads: int) -> np.ndarray[Any, Any]:
    """Rows from Transformers' rotate-half order to adjacent pairs, as llama2.c and llama.cpp keep them."""
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns).numpy()


def write_llama2c(path: Path, model: Any, pieces: list[str], scores: list[float]) -> None:
    """Header, weights, then sentencepiece pieces; only tied models."""
    config = model.config
    state = {name: value.detach() for name, value in model.state_dict().items()}
    sizes = (config.hidden_size, config.intermediate_size, LAYERS, HEADS, KV_HEADS, config.vocab_size, CONTEXT)
    layers = [f"model.layers.{layer}." for layer in range(LAYERS)]

    def each(name: str, heads: int | None = None) -> list[np.ndarray[Any, Any]]:
        weights = [state[prefix + name] for prefix in layers]
        return [interleaved(w, heads) if heads else w.numpy() for w in weights]

    head_size = config.hidden_size // HEADS
    blocks = [
        state["model.embed_tokens.weight"].numpy(),
        *each("input_layernorm.weight"),
        *each("self_attn.q_proj.weight", HEADS),
        *each("self_attn.k_proj.weight", KV_HEADS),
        *each("self_attn.v_proj.weight"),
        *each("self_attn.o_proj.weight"),
        *each("post_attention_layernorm.weight"),
        *each("mlp.gate_proj.weight"),
        *each("mlp.down_proj.weight"),
        *each("mlp.up_proj.weight"),
        state["model.norm.weight"].numpy(),
        np.zeros(CONTEXT * head_size),
    ]
    tokenizer = struct.pack("<i", max(len(piece) for piece in pieces))
    for piece, score in zip(pieces, scores, strict=True):
        raw = piece.encode()
        tokenizer += struct.pack("<fi", score, len(raw)) + raw
    body = b"".join(np.ascontiguousarray(block, dtype="<f4").tobytes() for block in blocks)
    path.write_bytes(struct.pack("<7i", *sizes) + body + tokenizer)


def sentence_pieces() -> tuple[list[str], list[float]]:
    """Control pieces, bytes, letters, then merged pieces of which `abc` has the best score."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = ["<unk>", "<s>", "</s>", *bytes_, " ", "a", "b", "c", "ab", "bc", "abc"]
    scores = [0.0] * 259 + [-1e6] * 4 + [-2.0, -1.0, -3.0]
    return pieces, scores


def write_gguf(path: Path, model: Any) -> None:
    """fp32 GGUF with the byte-level tokenizer, an untied head, and a licence."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_license("mit")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.hidden_size // HEADS)
    writer.add_vocab_size(config.vocab_size)
    tokens = sorted(byte_tokenizer().get_vocab().items(), key=lambda item: item[1])
    tokens += [("th", len(tokens))]
    tokens += [(f"<unused{i}>", i) for i in range(len(tokens), config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_types([3 if i < len(SPECIAL_TOKENS) else 1 for i in range(len(tokens))])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    names = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    state = {name: value.detach() for name, value in model.state_dict().items()}
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"].numpy())
    writer.add_tensor("output_norm.weight", state["model.norm.weight"].numpy())
    writer.add_tensor("output.weight", state["lm_head.weight"].numpy())
    for layer in range(LAYERS):
        for ours, theirs in names.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"]
            heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(theirs)
            array = interleaved(weight, heads) if heads else weight.numpy()
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits_of(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(4, 20).unsqueeze(0)).logits
