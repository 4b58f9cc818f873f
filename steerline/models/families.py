"""Where each family of models keeps its sites: one table, data only.

A template is a path relative to the body (the model without its head: Transformers' `base_model`), with `{layer}` for
the layer's number. The head is not listed, nor are most embeddings: every Transformers model names its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Family:
    """Module paths of one architecture.

    Args:
        block: a residual block; its output is what the next block reads.
        attention: the module that returns (hidden states [B, T, D], attention probabilities [B, H, T, T] under the
            eager kernel). In BERT and RoBERTa it includes the residual connection and its norm, elsewhere not.
        ffn_values: the FFN's value projection. Its input [B, T, F] are the FFN's keys, also where the FFN is gated.
        embed: the module whose output are the token vectors, where it is more than the table of them.
        attention_branch: the module whose output is added to the residual stream, where that is not `attention`: a norm
            in between, or an `attention` that holds the sum already.
        ffn_branch: the same of the FFN, where it is not `ffn_values`.
    """

    block: str
    attention: str
    ffn_values: str
    embed: str | None = None
    attention_branch: str | None = None
    ffn_branch: str | None = None


_LLAMA = Family("layers.{layer}", "layers.{layer}.self_attn", "layers.{layer}.mlp.down_proj")
_GEMMA = replace(
    _LLAMA,
    attention_branch="layers.{layer}.post_attention_layernorm",
    ffn_branch="layers.{layer}.post_feedforward_layernorm",
)
_BERT = Family(
    "encoder.layer.{layer}",
    "encoder.layer.{layer}.attention",
    "encoder.layer.{layer}.output.dense",
    attention_branch="encoder.layer.{layer}.attention.output.dense",
)

# By `config.model_type`.
FAMILIES: Mapping[str, Family] = {
    "gpt2": Family("h.{layer}", "h.{layer}.attn", "h.{layer}.mlp.c_proj"),
    "gpt_neox": Family("layers.{layer}", "layers.{layer}.attention", "layers.{layer}.mlp.dense_4h_to_h"),
    # OPT flattens the tokens before its FFN: these keys are [B * T, F].
    "opt": Family("decoder.layers.{layer}", "decoder.layers.{layer}.self_attn", "decoder.layers.{layer}.fc2"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "phi": Family("layers.{layer}", "layers.{layer}.self_attn", "layers.{layer}.mlp.fc2"),
    "phi3": _LLAMA,
    "bert": _BERT,
    "roberta": _BERT,
    "safr_classifier": Family(
        "layers.{layer}", "layers.{layer}.attention", "layers.{layer}.ffn_out", embed="embedding"
    ),
    "distilbert": Family(
        "transformer.layer.{layer}", "transformer.layer.{layer}.attention", "transformer.layer.{layer}.ffn.lin2"
    ),
}

# Config fields of families that squash their logits after the head: `cap * tanh(logits / cap)`.
SOFTCAP_KEYS = ("final_logit_softcapping", "logits_soft_cap")

# By `config.model_type`, the config field by which the head's output is multiplied or divided to give the logits.
LOGIT_MULTIPLIERS: Mapping[str, str] = {
    "cohere": "logit_scale",
    "cohere2": "logit_scale",
    "cohere2_moe": "logit_scale",
    "falcon_h1": "lm_head_multiplier",
}
LOGIT_DIVISORS: Mapping[str, str] = {
    "granite": "logits_scaling",
    "granitemoe": "logits_scaling",
    "granitemoehybrid": "logits_scaling",
    "granitemoeshared": "logits_scaling",
}
