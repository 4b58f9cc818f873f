"""llama2.c checkpoints (the legacy format, fp32) as Hugging Face folders.

The file is a header, the weights, and behind them the tokenizer: what `llama2.c` keeps in `model.bin` and
`tokenizer.bin`, one after the other. Format: github.com/karpathy/llama2.c, `export.py` and `run.c`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from steerline.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_HEADER = struct.Struct("<7i")
_NUM_CONTROL = 3  # <unk>, <s>, </s>
_NUM_BYTES = 256


@dataclass(frozen=True)
class Header:
    """Sizes as the file states them. A negative vocabulary means that head and embedding are two matrices."""

    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    vocab: int
    context: int

    @classmethod
    def read(cls, data: bytes) -> Header:
        """The header of a file.

        Raises:
            ModelError: these bytes are no such header.
        """
        if len(data) < _HEADER.size:
            raise _not_llama2c(f"{len(data)} bytes")
        header = cls(*_HEADER.unpack_from(data))
        sizes = (header.hidden, header.intermediate, header.num_layers, header.num_heads, header.num_kv_heads)
        plausible = all(0 < size < 1 << 20 for size in sizes) and header.vocab != 0 and 0 < header.context < 1 << 20
        if not plausible or header.hidden % header.num_heads or header.num_heads % header.num_kv_heads:
            raise _not_llama2c(f"header {header}")
        return header

    @property
    def vocab_size(self) -> int:
        return abs(self.vocab)

    @property
    def head_size(self) -> int:
        return self.hidden // self.num_heads

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_size


def convert(source: Path, folder: Path) -> None:
    """Write the checkpoint as safetensors, config and tokenizer into `folder`. The format names no licence.

    Raises:
        ModelError: the file is not a llama2.c checkpoint followed by its tokenizer.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    data = source.read_bytes()
    header = Header.read(data)
    weights, end = _weights(data, header)
    tokenizer = _tokenizer(data[end:], header)
    config = LlamaConfig(
        vocab_size=header.vocab_size,
        hidden_size=header.hidden,
        intermediate_size=header.intermediate,
        num_hidden_layers=header.num_layers,
        num_attention_heads=header.num_heads,
        num_key_value_heads=header.num_kv_heads,
        max_position_embeddings=header.context,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=header.vocab > 0,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(weights, strict=True)
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _weights(data: bytes, header: Header) -> tuple[dict[str, Tensor], int]:
    """Weights under their Transformers names, and the offset at which they end."""
    L, D, F, V, K = header.num_layers, header.hidden, header.intermediate, header.vocab_size, header.kv_size
    shapes: dict[str, tuple[int, ...]] = {
        "embedding": (V, D),
        "attention_norm": (L, D),
        "q": (L, D, D),
        "k": (L, K, D),
        "v": (L, K, D),
        "o": (L, D, D),
        "ffn_norm": (L, D),
        "gate": (L, F, D),
        "down": (L, D, F),
        "up": (L, F, D),
        "norm": (D,),
        "rotary": (2, header.context, header.head_size // 2),  # tables that Transformers computes itself
    }
    if header.vocab < 0:
        shapes["head"] = (V, D)
    parts: dict[str, Tensor] = {}
    offset = _HEADER.size
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        if offset + 4 * count > len(data):
            raise _not_llama2c(f"{len(data)} bytes, too few for {header}")
        parts[name] = torch.from_numpy(np.frombuffer(data, "<f4", count, offset).copy()).view(shape)
        offset += 4 * count
    named = {
        "model.embed_tokens.weight": parts["embedding"],
        "model.norm.weight": parts["norm"],
        "lm_head.weight": parts.get("head", parts["embedding"]),
    }
    for layer in range(L):
        named |= _layer_weights(parts, layer, header)
    return named, offset


def _layer_weights(parts: dict[str, Tensor], layer: int, header: Header) -> dict[str, Tensor]:
    prefix = f"model.layers.{layer}."
    return {
        prefix + "input_layernorm.weight": parts["attention_norm"][layer],
        prefix + "post_attention_layernorm.weight": parts["ffn_norm"][layer],
        prefix + "self_attn.q_proj.weight": _rotate_half_order(parts["q"][layer], header.num_heads),
        prefix + "self_attn.k_proj.weight": _rotate_half_order(parts["k"][layer], header.num_kv_heads),
        prefix + "self_attn.v_proj.weight": parts["v"][layer],
        prefix + "self_attn.o_proj.weight": parts["o"][layer],
        prefix + "mlp.gate_proj.weight": parts["gate"][layer],
        prefix + "mlp.up_proj.weight": parts["up"][layer],
        prefix + "mlp.down_proj.weight": parts["down"][layer],
    }


def _rotate_half_order(weight: Tensor, num_heads: int) -> Tensor:
    """Rows [H * 2P, D] from llama2.c's order (rotated pairs adjacent) to Transformers' (first halves, then second)."""
    rows, columns = weight.shape
    pairs = weight.view(num_heads, rows // num_heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)


def _tokenizer(data: bytes, header: Header) -> PreTrainedTokenizerFast:
    pieces, scores = _pieces(data, header)
    return _build_tokenizer(pieces, _merges(pieces, scores), header.context)


def _pieces(data: bytes, header: Header) -> tuple[list[str], list[float]]:
    """Sentencepiece's pieces and scores: an int (longest piece), then a float, a length and bytes for each piece."""
    entry = struct.Struct("<fi")
    texts: list[bytes] = []
    scores: list[float] = []
    offset = 4
    for _ in range(header.vocab_size):
        if offset + entry.size > len(data):
            raise _not_llama2c(f"no tokenizer of {header.vocab_size} pieces behind the weights")
        score, length = entry.unpack_from(data, offset)
        offset += entry.size
        texts.append(data[offset : offset + length])
        scores.append(score)
        offset += length
    control = ["<unk>", "<s>", "</s>"]
    raw_bytes = [f"<0x{byte:02X}>" for byte in range(_NUM_BYTES)]
    ordinary = [text.decode("utf-8").replace(" ", "▁") for text in texts[_NUM_CONTROL + _NUM_BYTES :]]
    pieces = control + raw_bytes + ordinary
    if len(set(pieces)) != header.vocab_size:
        raise _not_llama2c("a tokenizer that lists a piece twice")
    return pieces, scores


def _merges(pieces: list[str], scores: list[float]) -> list[tuple[str, str]]:
    """Sentencepiece's scores as BPE merges: the piece of the highest score is merged first."""
    vocab = {piece: index for index, piece in enumerate(pieces)}
    merges: list[tuple[str, str, int]] = []
    for index in range(_NUM_CONTROL + _NUM_BYTES, len(pieces)):
        piece = pieces[index]
        splits = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        splits.sort(key=lambda split: (vocab[split[0]], vocab[split[1]]))
        merges += [(left, right, index) for left, right in splits]
    merges.sort(key=lambda merge: (-scores[merge[2]], merge[2]))
    return [(left, right) for left, right, _ in merges]


def _build_tokenizer(pieces: list[str], merges: list[tuple[str, str]], context: int) -> PreTrainedTokenizerFast:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    unknown, begin, end = pieces[:_NUM_CONTROL]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    bpe = models.BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token=unknown, fuse_unk=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, 1)]
    )
    control = [AddedToken(token, special=True, normalized=False) for token in (unknown, begin, end)]
    tokenizer.add_special_tokens(control)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        eos_token=end,
        unk_token=unknown,
        pad_token=unknown,
        model_max_length=context,
    )


def _not_llama2c(got: str) -> ModelError:
    return ModelError(
        "this file is not a llama2.c checkpoint followed by its tokenizer",
        got=got,
        expected="a header of seven integers, fp32 weights, then tokenizer.bin",
    )
