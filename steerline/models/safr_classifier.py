"""The classifier of the SAFR paper (arXiv 2501.16374): a post-norm Transformer encoder with a VMASK gate at its input.

    e = embedding(tokens) * sqrt(E)        x = VMASK(e) * e        h = dropout(x + sinusoidal positions)
    N layers:  h = LayerNorm(h + dropout(attention(h)))            h = LayerNorm(h + dropout(FFN(h)))
    logits = W mean over positions(h) + b

The paper has N = 1; sizes and the order of operations follow the authors' code. Weights start as PyTorch's layers do,
embeddings at N(0, 1): the code's own initialisation is not known, and this is what a plain implementation has.
Importing this module makes Transformers' Auto classes know the architecture.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from steerline.models.vmask import VmaskGate

MODEL_TYPE = "safr_classifier"


class SafrClassifierConfig(PreTrainedConfig):
    """Sizes of the classifier; the defaults are the paper's.

    Args:
        hidden_size: E, width of the residual stream.
        intermediate_size: F, neurons of each FFN.
        num_hidden_layers: N.
        num_attention_heads: H, each of width E / H.
        vmask_hidden_size: width of the gate's tanh layer; none builds no gate.
        pooling: mean over the real tokens (`masked`), or over padding too (`all`, the authors' code).
        dropout: after the positions and at the end of each sublayer.
    """

    model_type = MODEL_TYPE

    vocab_size: int = 16000
    hidden_size: int = 256
    intermediate_size: int = 1024
    num_hidden_layers: int = 1
    num_attention_heads: int = 8
    vmask_hidden_size: int | None = 1024
    pooling: Literal["masked", "all"] = "masked"
    dropout: float = 0.1
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.hidden_size % self.num_attention_heads or self.hidden_size % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be even and a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if self.pooling not in ("masked", "all"):
            raise ValueError(f"pooling {self.pooling!r} must be 'masked' or 'all'")


class SafrEmbedding(nn.Module):
    """Token embeddings times sqrt(E), then the gate: the vectors x that SAFR's importance term is about."""

    def __init__(self, config: SafrClassifierConfig) -> None:
        super().__init__()
        # Padding keeps a vector of its own: the gate and the reference losses see it.
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.scale = math.sqrt(config.hidden_size)
        width = config.vmask_hidden_size
        self.gate = None if width is None else VmaskGate(config.hidden_size, width)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Ids [B, T] to x [B, T, E]."""
        embeddings: Tensor = self.tokens(input_ids) * self.scale
        if self.gate is None:
            return embeddings
        masked: Tensor = self.gate(embeddings)[0]
        return masked


class SafrAttention(nn.Module):
    """Multi-head attention in both directions, through whatever kernel the config names."""

    def __init__(self, config: SafrClassifierConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """[B, T, E] to [B, T, E] and, under the eager kernel, the probabilities [B, H, T, T]."""
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (
            projection(hidden_states).view(shape).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        kernel = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        output, probabilities = kernel(
            self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling, **kwargs
        )
        return self.o_proj(output.reshape(*hidden_states.shape)), probabilities


def eager_attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """softmax(q k^T * scaling + mask) v.

    Args:
        query, key, value: [B, H, T, D].
        attention_mask: additive, [B, 1, T, T].
        scaling: of the scores.

    Returns:
        [B, T, H, D] and the probabilities [B, H, T, T].
    """
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    probabilities = scores.softmax(dim=-1)
    return (probabilities @ value).transpose(1, 2), probabilities


class SafrLayer(GradientCheckpointingLayer):
    """One post-norm layer: attention, then the FFN, each with its residual, then LayerNorm."""

    def __init__(self, config: SafrClassifierConfig, layer_idx: int) -> None:
        super().__init__()
        self.attention = SafrAttention(config, layer_idx)
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.ffn_in = nn.Linear(config.hidden_size, config.intermediate_size)
        self.ffn_out = nn.Linear(config.intermediate_size, config.hidden_size)
        self.ffn_norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """[B, T, E] to [B, T, E]."""
        attended, _ = self.attention(hidden_states, attention_mask, **kwargs)
        hidden_states = self.attention_norm(hidden_states + self.dropout(attended))
        neurons = self.ffn_in(hidden_states).relu()
        output: Tensor = self.ffn_norm(hidden_states + self.dropout(self.ffn_out(neurons)))
        return output


class SafrClassifierPreTrainedModel(PreTrainedModel):
    """What body and classifier share."""

    config: SafrClassifierConfig
    config_class = SafrClassifierConfig
    base_model_prefix = "encoder"
    supports_gradient_checkpointing = True
    _no_split_modules = ("SafrLayer",)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": SafrLayer, "attentions": SafrAttention}  # noqa: RUF012 (Transformers' own name)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # PyTorch's own start of each layer, where Transformers' would be N(0, 0.02). Loaded weights are guarded.
        if isinstance(module, nn.Linear | nn.Embedding | nn.LayerNorm):
            module.reset_parameters()


class SafrClassifierModel(SafrClassifierPreTrainedModel):
    """The encoder: ids to hidden states."""

    def __init__(self, config: SafrClassifierConfig) -> None:
        super().__init__(config)
        self.embedding = SafrEmbedding(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(SafrLayer(config, index) for index in range(config.num_hidden_layers))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of token vectors."""
        return self.embedding.tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Put another table in its place."""
        self.embedding.tokens = value

    @merge_with_config_defaults  # type: ignore[untyped-decorator]
    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        use_cache: bool | None = None,  # noqa: ARG002 (for callers that switch a decoder's off: there is none)
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Hidden states [B, T, E] of ids [B, T]; `attention_mask` [B, T] is 0 on padding, which no token attends to."""
        masked = self.embedding(input_ids)
        hidden = self.dropout(masked + sinusoids(masked.shape[1], masked.shape[2], like=masked))
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=hidden, attention_mask=attention_mask)
        for layer in self.layers:
            hidden = layer(hidden, mask, **kwargs)
        return BaseModelOutput(last_hidden_state=hidden)


class SafrClassifierForSequenceClassification(SafrClassifierPreTrainedModel):
    """The paper's classifier: encoder, mean over positions, one linear layer."""

    def __init__(self, config: SafrClassifierConfig) -> None:
        super().__init__(config)
        self.encoder = SafrClassifierModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> SequenceClassifierOutput:
        """Logits [B, C] of ids [B, T], and the mean cross entropy (nats) where `labels` [B] are given.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], 0 on padding; none means that there is no padding.
            labels: [B], the class of each row.
            kwargs: passed to the layers (`output_attentions` and the like).
        """
        outputs = self.encoder(input_ids, attention_mask=attention_mask, **kwargs)
        pooled = self._pooled(outputs.last_hidden_state, attention_mask)
        logits = self.classifier(pooled)
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def _pooled(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        if self.config.pooling == "all" or attention_mask is None:
            return hidden.mean(dim=1)
        weights = attention_mask.to(hidden.dtype).unsqueeze(-1)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def sinusoids(length: int, width: int, *, like: Tensor) -> Tensor:
    """Positions [T, E] of Vaswani et al. 2017: sin and cos of `t / 10000^(2i / E)` in turn, in the dtype of `like`."""
    rates = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10000.0) / width))
    angles = torch.arange(length, device=like.device)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).to(like.dtype)


def _register() -> None:
    AutoConfig.register(MODEL_TYPE, SafrClassifierConfig, exist_ok=True)
    AutoModel.register(SafrClassifierConfig, SafrClassifierModel, exist_ok=True)
    AutoModelForSequenceClassification.register(
        SafrClassifierConfig, SafrClassifierForSequenceClassification, exist_ok=True
    )


_register()
