"""Rows as tensors, and as the arguments of a model's forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from steerline.data.tokens import TokenizedExample
from steerline.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Row = tuple[TokenizedExample, ...]
IGNORED = -100
"""Label of a position that carries no loss."""
_MASK_READY_MADE = frozenset({"opt", "biogpt", "xglm"})


@dataclass(frozen=True)
class Batch:
    """One micro-batch. B rows, T positions.

    Args:
        input_ids: [B, T] int64.
        labels: [B, T] int64, already shifted: the token to predict at each position, -100 where none carries the loss.
            Of a text to classify, its class at its last token.
        position_ids: [B, T] int64; they start at 0 in every example, and again where padding begins.
        segment_ids: [B, T] int64: 0 on padding, 1, 2, ... on the examples of a row.
        sample_ids: the ids of each row's examples.
    """

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor
    segment_ids: Tensor
    sample_ids: tuple[tuple[str, ...], ...]

    @property
    def token_mask(self) -> Tensor:
        """[B, T] bool: true where there is a token of an example."""
        return self.segment_ids > 0

    @property
    def target_mask(self) -> Tensor:
        """[B, T] bool: true where the next token carries the loss."""
        return self.labels != IGNORED

    @property
    def num_targets(self) -> int:
        """Positions that carry the loss."""
        return int(self.target_mask.sum())

    @property
    def is_packed(self) -> bool:
        """Whether some row holds several examples."""
        return any(len(ids) > 1 for ids in self.sample_ids)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        tensors = {name: getattr(self, name) for name in ("input_ids", "labels", "position_ids", "segment_ids")}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})

    def model_inputs(self, config: PreTrainedConfig) -> dict[str, Any]:
        """Arguments for a Transformers model's forward, without labels.

        Rows of one example: a two-dimensional mask, or none when nothing is padded (attention kernels then take their
        fast causal path). Rows of several: no mask but position ids that start again at each example, from which
        Transformers builds a block-diagonal causal mask for each kind of layer, sliding windows included; it does so
        only without a key-value cache, which is therefore switched off. Families that build their mask without looking
        at position ids get that mask ready-made. `steerline.data.isolation` proves it for a model at hand.

        Args:
            config: the model's own config.

        Raises:
            DataError: rows hold several examples and this model would let them see each other.
        """
        if self.is_packed:
            _refuse_packing(config, rows=len(self.input_ids))
            packed = {"input_ids": self.input_ids, "position_ids": self.position_ids, "use_cache": False}
            if config.model_type in _MASK_READY_MADE:
                packed["attention_mask"] = self._block_mask(config)
            return packed
        inputs: dict[str, Any] = {"input_ids": self.input_ids}
        if not config.is_encoder_decoder and not _is_encoder(config):
            inputs["use_cache"] = False
        padded = not bool(self.token_mask.all())
        if padded and any(self.sample_ids):
            inputs["attention_mask"] = self.token_mask.long()
        return inputs

    def _block_mask(self, config: PreTrainedConfig) -> Tensor:
        """[B, 1, T, T]: each token sees itself and what precedes it in its own example (padding counts as one)."""
        segments = self.segment_ids
        size = segments.shape[1]
        causal = torch.ones(size, size, dtype=torch.bool, device=segments.device).tril()
        seen = ((segments[:, :, None] == segments[:, None, :]) & causal)[:, None]
        if config._attn_implementation == "sdpa":
            return seen
        hidden = torch.finfo(torch.float32).min
        return torch.zeros(seen.shape, device=segments.device).masked_fill(~seen, hidden)


def collate(rows: Sequence[Row], pad_id: int, pad_to_multiple_of: int = 8) -> Batch:
    """Rows as one batch, padded on the right to the longest of them, rounded up.

    No rows give one row of padding: a worker without work still takes part in the collectives of a step.
    """
    widest = max((sum(len(example) for example in row) for row in rows), default=1)
    width = -(-widest // pad_to_multiple_of) * pad_to_multiple_of
    shape = (max(1, len(rows)), width)
    input_ids = torch.full(shape, pad_id, dtype=torch.long)
    labels = torch.full(shape, IGNORED, dtype=torch.long)
    segment_ids = torch.zeros(shape, dtype=torch.long)
    position_ids = torch.arange(width).repeat(shape[0], 1)
    for index, row in enumerate(rows):
        start = 0
        for number, example in enumerate(row, start=1):
            end = start + len(example)
            tokens = torch.from_numpy(example.input_ids).long()
            marked = torch.from_numpy(example.targets)[1:]
            input_ids[index, start:end] = tokens
            if example.label is None:
                labels[index, start : end - 1] = torch.where(marked, tokens[1:], IGNORED)
            else:
                labels[index, end - 1] = example.label
            segment_ids[index, start:end] = number
            position_ids[index, start:end] = torch.arange(len(example))
            start = end
        position_ids[index, start:] = torch.arange(width - start)
    ids = tuple(tuple(example.id for example in row) for row in rows)
    return Batch(input_ids, labels, position_ids, segment_ids, ids)


def _refuse_packing(config: PreTrainedConfig, *, rows: int) -> None:
    kernel = config._attn_implementation
    if _is_encoder(config) or config.is_encoder_decoder:
        why = "it attends in both directions"
    elif kernel == "flash_attention_2" and rows > 1:
        why = "its kernel, flash_attention_2, tells examples apart only in batches of one row"
    elif kernel not in ("sdpa", "eager", "flash_attention_2"):
        why = f"its attention kernel `{kernel}` is not known to keep examples apart"
    else:
        return
    raise DataError(
        "packed rows cannot be used with this model",
        where="data.packing",
        got=f"{config.model_type}: {why}",
        fix="set `data.packing: false`, or `model.attention: sdpa`",
    )


def _is_encoder(config: PreTrainedConfig) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.to_dict().get("is_decoder", False)
