"""A batch of prompts, continued together: left padding, a key-value cache, and for each row its own steering, sampling,
stop texts and length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from steerline.config.inference import SamplingSpec
from steerline.config.steering import SteeringSpec
from steerline.inference.chance import uniform
from steerline.inference.draw import draw
from steerline.inference.prefixes import Prefixes
from steerline.inference.row_steering import RowSteering

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PLAIN = SteeringSpec()
_ROOM_FOR_BYTES = 8  # tokens, beyond the stop text's own bytes, in which its end may lie


@dataclass(eq=False)
class Row:
    """One continuation while it is written."""

    prompt: list[int]
    sampling: SamplingSpec
    max_tokens: int
    """The sampling's, or what the model's context leaves."""
    seed: int = 0
    steering: SteeringSpec = PLAIN
    new: list[int] = field(default_factory=list)
    finish: Literal["stop", "length"] | None = None
    text: str = ""
    """Of a finished row, without the stop text and special tokens."""
    cached_tokens: int = 0
    """Of the prompt's, those that were not computed for this row."""


class Decoder:
    """Continues batches with one model.

    Args:
        model: causal, in eval mode.
        tokenizer: the model's.
        steering: attaches the steering of rows.
        ends: tokens that end a text.
        prefixes: what prompts have in common.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        steering: Callable[[Sequence[SteeringSpec]], RowSteering],
        ends: frozenset[int],
        prefixes: Prefixes,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._steering = steering
        self._ends = ends
        self._prefixes = prefixes

    def decode(self, rows: Sequence[Row], cancelled: Callable[[], bool] = lambda: False) -> None:
        """Writes all rows to their ends, or until `cancelled`; finished rows leave the batch.

        Raises:
            SteeringError: a row's steering cannot act on this model.
        """
        with torch.inference_mode(), self._steering([row.steering for row in rows]) as steering:
            batch = _Batch(self._model, steering, rows, self._prefixes)
            logits = batch.prefill()
            while not cancelled():
                tokens = self._choose(logits, batch.live)
                for row, token in zip(batch.live, tokens, strict=True):
                    self._add(row, token)
                if all(row.finish for row in batch.live):
                    return
                logits = batch.step(tokens)

    def _choose(self, logits: Tensor, rows: Sequence[Row]) -> list[int]:
        """The next token of each row, by logits [B, V]."""
        tokens: list[int] = logits.argmax(dim=-1).tolist()
        for index, row in enumerate(rows):
            if row.sampling.temperature > 0:
                tokens[index] = draw(logits[index], row.sampling, uniform(row.seed, len(row.new)))
        return tokens

    def _add(self, row: Row, token: int) -> None:
        if row.finish is not None:
            return  # until it leaves the batch
        row.new.append(token)
        if token in self._ends:
            self._finish(row, "stop", row.new[:-1])
        elif row.sampling.stop and self._stopped(row):
            self._finish(row, "stop", row.new)
        elif len(row.new) == row.max_tokens:
            self._finish(row, "length", row.new)

    def _stopped(self, row: Row) -> bool:
        longest = max(len(stop.encode()) for stop in row.sampling.stop)
        tail = self._text(row.new[-longest - _ROOM_FOR_BYTES :])
        return any(stop in tail for stop in row.sampling.stop)

    def _finish(self, row: Row, reason: Literal["stop", "length"], tokens: list[int]) -> None:
        text = self._text(tokens)
        places = [place for place in map(text.find, row.sampling.stop) if place >= 0]
        row.text = text[: min(places)] if places else text
        row.finish = reason

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


class _Batch:
    """The tensors of the rows that are still written. They stand after what all prompts share."""

    def __init__(self, model: PreTrainedModel, steering: RowSteering, rows: Sequence[Row], prefixes: Prefixes) -> None:
        self.live = list(rows)
        self._model = model
        self._steering = steering
        self._numbers = torch.arange(len(rows))
        self._device = model.device
        self._cache, self._shared = prefixes.begin(model, steering, rows)
        self._lengths = torch.tensor([len(row.prompt) for row in rows], device=self._device)
        self._mask = torch.ones(len(rows), self._shared, dtype=torch.long, device=self._device)

    def prefill(self) -> Tensor:
        """Logits [B, V] after the prompts."""
        rests = [row.prompt[self._shared :] for row in self.live]
        width = max(map(len, rests))
        ids = torch.zeros(len(rests), width, dtype=torch.long)
        mask = torch.zeros(len(rests), width, dtype=torch.long)
        for index, rest in enumerate(rests):
            ids[index, width - len(rest) :] = torch.tensor(rest)
            mask[index, width - len(rest) :] = 1
        positions = (self._shared + mask.cumsum(dim=-1) - 1).clamp(min=0)
        return self._forward(ids, mask, positions)

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Logits [B, V] after one more token for each row; finished rows leave the batch first."""
        keep = [index for index, row in enumerate(self.live) if row.finish is None]
        if len(keep) < len(self.live):
            self._keep(keep)
        ids = torch.tensor([tokens[index] for index in keep])[:, None]
        positions = self._lengths[:, None]
        self._lengths = self._lengths + 1
        return self._forward(ids, torch.ones_like(ids), positions)

    def _keep(self, indices: list[int]) -> None:
        kept = torch.tensor(indices)
        self.live = [self.live[index] for index in indices]
        self._numbers = self._numbers[kept]
        kept = kept.to(self._device)
        self._lengths, self._mask = self._lengths[kept], self._mask[kept]
        self._cache.batch_select_indices(kept)

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        self._mask = torch.cat([self._mask, mask.to(self._device)], dim=-1)
        with self._steering.forward(self._numbers):
            out = self._model(
                input_ids=ids.to(self._device),
                attention_mask=self._mask,
                position_ids=positions.to(self._device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits: Tensor = out.logits[:, -1]
        return logits
