"""Tiny random-weight models of every family that `anatomy` knows, and the tokenizer that goes with them.

`tiny_model("llama")` takes a few milliseconds. Weights are drawn wide enough that every layer and every bias matters to
the logits, and dropout is 0, so a model in train mode is deterministic too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from steerline.models.byte_tokenizer import VOCAB_SIZE, byte_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

DECODER_FAMILIES: tuple[str, ...] = (
    "gpt2",
    "gpt_neox",
    "opt",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "phi",
    "phi3",
)
ENCODER_FAMILIES: tuple[str, ...] = ("bert", "distilbert", "roberta")
TINY_FAMILIES: tuple[str, ...] = DECODER_FAMILIES + ENCODER_FAMILIES

# Holds every id of tiny_tokenizer(), rounded up to a multiple of 8.
TINY_VOCAB = (VOCAB_SIZE + 7) // 8 * 8
MAX_POSITIONS = 512
NUM_HEADS = 4

# Field names of the family's config, where they differ from those of Llama.
_RENAMED: dict[str, dict[str, str]] = {
    "gpt2": {
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "intermediate_size": "n_inner",
        "max_position_embeddings": "n_positions",
    },
    "opt": {"intermediate_size": "ffn_dim"},
    "distilbert": {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
    },
}

_EXTRA: dict[str, dict[str, Any]] = {
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "gpt_neox": {"attention_dropout": 0.0, "hidden_dropout": 0.0},
    "opt": {"dropout": 0.0, "attention_dropout": 0.0},
    "llama": {"num_key_value_heads": 2},
    "mistral": {"num_key_value_heads": 2, "sliding_window": None},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 8},
    "gemma3": {"num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 8},
    "phi": {"num_key_value_heads": 4},
    "phi3": {"num_key_value_heads": 2},
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "distilbert": {"dropout": 0.0, "attention_dropout": 0.0},
    # RoBERTa's positions start after the padding index.
    "roberta": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "type_vocab_size": 1},
}


def tiny_config(
    family: str,
    *,
    num_layers: int = 2,
    hidden: int = 32,
    intermediate: int = 64,
    vocab: int = TINY_VOCAB,
    **overrides: Any,
) -> Any:
    """The family's Transformers config in its smallest sensible form. `overrides` are fields of that config."""
    from transformers import AutoConfig

    values: dict[str, Any] = {
        "hidden_size": hidden,
        "num_hidden_layers": num_layers,
        "num_attention_heads": NUM_HEADS,
        "intermediate_size": intermediate,
        "max_position_embeddings": MAX_POSITIONS,
    }
    renamed = {_RENAMED.get(family, {}).get(name, name): value for name, value in values.items()}
    extra = dict(_EXTRA[family])
    if family == "opt":
        extra["word_embed_proj_dim"] = hidden
    specials = {"vocab_size": vocab, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model_type = "gemma3_text" if family == "gemma3" else family
    return AutoConfig.for_model(model_type, **{**specials, **renamed, **extra, **overrides})


def tiny_model(
    family: str,
    *,
    seed: int = 0,
    num_layers: int = 2,
    hidden: int = 32,
    intermediate: int = 64,
    vocab: int = TINY_VOCAB,
    dtype: torch.dtype = torch.float32,
    attention: str | None = None,
    **overrides: Any,
) -> PreTrainedModel:
    """A model of `family` with random weights, in eval mode: causal LM for decoders, masked LM for encoders.

    The same arguments give the same weights. The global random state is left as it was. `attention` is Transformers'
    kernel; none takes sdpa where the family has it, and eager for Gemma 2, which has only that.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    config = tiny_config(
        family, num_layers=num_layers, hidden=hidden, intermediate=intermediate, vocab=vocab, **overrides
    )
    auto = AutoModelForMaskedLM if family in ENCODER_FAMILIES else AutoModelForCausalLM
    kernel = attention or ("eager" if family == "gemma2" else "sdpa")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(config, dtype=torch.float32, attn_implementation=kernel)
        _widen(model)
    cast_weights(model, dtype)
    model.eval()
    return model


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer (260 tokens, inside TINY_VOCAB) with pad, bos, eos, mask and a chat template."""
    return byte_tokenizer()


@torch.no_grad()
def cast_weights(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast the weights and leave the buffers, as `from_pretrained` and DeepSpeed do.

    `model.to(dtype)` would cast the rotary frequencies too, which moves the logits (by 0.07 in a tiny Llama).
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


@torch.no_grad()
def _widen(model: PreTrainedModel) -> None:
    """Draw every weight anew: matrices with variance 1/columns, so that no layer is a small correction to the residual
    stream; biases and norm weights with noise, so that a test that forgets a bias fails."""
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * 0.1)
        else:
            parameter.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5)
