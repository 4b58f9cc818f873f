"""Attention over pages: each token of a pass attends to what its own row has before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from steerline.inference import native_attention
from steerline.inference.pages import PAGE, Pages, num_pages

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = "steerline_pages"


@dataclass(frozen=True)
class Span:
    """Neighbouring tokens of one row in a pass."""

    start: int
    """The place of the first in its row."""
    length: int
    pages: Sequence[int]
    """Of the whole row, up to the last of these tokens at least."""

    @property
    def end(self) -> int:
        """The place after the last."""
        return self.start + self.length


class PagedPass:
    """One pass of a model over tokens of many rows, [N, 1] of them as the model sees it.

    Args:
        pages: where keys and values are.
        spans: N tokens in all.
        device: the model's.
    """

    def __init__(self, pages: Pages, spans: Sequence[Span], device: torch.device) -> None:
        self.pages = pages
        self.positions = torch.tensor(
            [[place] for span in spans for place in range(span.start, span.end)], device=device
        )
        places = self.positions[:, 0]
        table = [span.pages[place // PAGE] for span in spans for place in range(span.start, span.end)]
        self._page = torch.tensor(table, device=device)
        self._column = places % PAGE
        firsts = [0, *accumulate(span.length for span in spans)]
        self._spans = [(first, span) for first, span in zip(firsts, spans, strict=False) if span.length > 1]
        singles = [(first, span) for first, span in zip(firsts, spans, strict=False) if span.length == 1]
        self._single = torch.tensor([first for first, _ in singles], dtype=torch.long, device=device)
        held = [list(span.pages[: num_pages(span.end)]) for _, span in singles]
        most = max(map(len, held), default=0)
        # By their own last: what is masked is still multiplied, and the numbers of another row may not be finite.
        padded = [pages + pages[-1:] * (most - len(pages)) for pages in held]
        self._table = torch.tensor(padded, dtype=torch.int32, device=device)
        self._ends = torch.tensor([span.end for _, span in singles], dtype=torch.long, device=device)
        self._firsts: dict[int | None, Tensor] = {}
        self._masks: dict[tuple[int | None, int | None], Tensor] = {}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, cap: float | None
    ) -> Tensor:
        """Files keys and values [N, K, 1, D] and attends with queries [N, H, 1, D]; the result is [N, 1, H, D]."""
        keys, values = self.pages.layer(layer, key)
        is_native = native_attention.handles(query)
        if is_native:
            native_attention.file(key, value, self._page, self._column, keys, values)
        else:
            keys[self._page, :, :, self._column] = key[:, :, 0]
            values[self._page, :, self._column] = value[:, :, 0]
        out = query.new_empty(len(query), 1, *query.shape[1::2])
        if len(self._single) and cap is None and is_native:
            where = (self._table, self._first_seen(window), self._ends, self._single)
            native_attention.attend(query, keys, values, *where, scale, out)
        elif len(self._single):
            known, told = _in_rows(keys[self._table].mT), _in_rows(values[self._table])
            alone = _attend(query[self._single], known, told, self._mask(None, window), scale, cap)
            out[self._single] = alone.transpose(1, 2)
        for number, (first, span) in enumerate(self._spans):
            rows = query[first : first + span.length, :, 0].transpose(0, 1)[None]
            held = torch.tensor(span.pages[: num_pages(span.end)], device=query.device)
            parts = (keys[held][None].mT, values[held][None])
            known, told = (_in_rows(part)[:, :, : span.end] for part in parts)
            among = _attend(rows, known, told, self._mask(number, window), scale, cap)  # [1, H, T, D]
            out[first : first + span.length, 0] = among[0].transpose(0, 1)
        return out

    def _first_seen(self, window: int | None) -> Tensor:
        """The first token of its row that each single one sees [R]."""
        if window not in self._firsts:
            ends = self._ends
            self._firsts[window] = torch.zeros_like(ends) if window is None else (ends - window).clamp(min=0)
        return self._firsts[window]

    def _mask(self, number: int | None, window: int | None) -> Tensor:
        """What may be seen: [1, 1, T, S] of a span, or [R, 1, 1, S] of the single tokens (no number)."""
        if (number, window) not in self._masks:
            device = self.positions.device
            if number is None:
                place = self.positions[self._single, None, None]
                seen = torch.arange(self._table.shape[1] * PAGE, device=device)
            else:
                _, span = self._spans[number]
                place = torch.arange(span.start, span.end, device=device)[None, None, :, None]
                seen = torch.arange(span.end, device=device)
            mask = seen <= place
            if window is not None:
                mask &= seen > place - window
            self._masks[number, window] = mask
        return self._masks[number, window]


def _in_rows(paged: Tensor) -> Tensor:
    """[R, P, K, PAGE, D] -> [R, K, P * PAGE, D]."""
    R, P, K, T, D = paged.shape
    return paged.transpose(1, 2).reshape(R, K, P * T, D)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float, cap: float | None) -> Tensor:
    """[R, H, T, D] queries over [R, K, S, D], H a multiple of K; mask [R, 1, T, S]."""
    R, H, T, D = query.shape
    K = key.shape[1]
    packed = query.reshape(R, K, H // K * T, D)  # heads that share a key are as many queries of it
    mask = mask if T == 1 else mask.repeat(1, 1, H // K, 1)
    if cap is None:
        out = scaled_dot_product_attention(packed, key, value, attn_mask=mask, scale=scale)
    else:
        scores = torch.tanh(packed @ key.transpose(-1, -2) * scale / cap) * cap
        weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1, dtype=torch.float32)
        out = weights.to(query.dtype) @ value
    return out.reshape(R, H, T, D)


def _in_transformers(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: None,
    *,
    scaling: float,
    paged: PagedPass,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What Transformers' models call in place of their own attention."""
    layer: int = module.layer_idx  # type: ignore[assignment]
    return paged.attend(layer, query, key, value, scaling, sliding_window, softcap), None


# Transformers builds no mask for an attention that has registered none.
AttentionInterface.register(_NAME, _in_transformers)


@contextmanager
def over_pages(model: PreTrainedModel) -> Iterator[None]:
    """While inside, the model attends by the `paged=` that its forward pass is given."""
    before = model.config._attn_implementation
    model.config._attn_implementation = _NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before
