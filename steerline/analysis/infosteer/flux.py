"""Information flux IF(t): the entropy of a token's key distribution, averaged over layers (the paper's s 5.4).

It is a proxy for how many memories a model uses at a token. That layers are averaged is inferred: the paper does not
say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steerline.analysis.infosteer.keys import reading_keys
from steerline.errors import EvaluationError
from steerline.models.anatomy import Site, transformers_model
from steerline.steering.infosteer import key_entropy
from steerline.steering.rows import Norm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Flux:
    """The flux of one text.

    Args:
        tokens: text of each token [T].
        by_layer: entropy in nats by layer and token [L, T].
        layers: numbers of the layers [L].
    """

    tokens: tuple[str, ...]
    by_layer: Floats
    layers: tuple[int, ...]

    @property
    def flux(self) -> Floats:
        """IF(t) in nats [T]."""
        mean: Floats = self.by_layer.mean(axis=0)
        return mean

    def bins(self, edges: tuple[float, float] | None = None) -> NDArray[np.int64]:
        """0, 1 or 2 for each token [T]: low, medium or high. By default the text is cut into thirds; pass
        another text's `edges` to colour two texts alike.
        """
        return np.digitize(self.flux, edges or self.edges)

    @property
    def edges(self) -> tuple[float, float]:
        """The flux at which the lower and the upper third of this text's tokens end."""
        low, high = np.quantile(self.flux, [1 / 3, 2 / 3])
        return float(low), float(high)


def information_flux(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    layers: Sequence[int] | None = None,
    norm: Norm = "abs_l1",
) -> Flux:
    """The flux of a text, in one forward pass.

    Args:
        model: in the mode and with the steering to be looked at.
        tokenizer: its tokenizer; special tokens that it adds are left out of the result.
        text: what to read.
        layers: layers to average over; all by default.
        norm: how signed keys become a distribution.

    Raises:
        EvaluationError: the text has no tokens, or a layer does not exist.
    """
    encoded = tokenizer(text, return_tensors="pt", return_special_tokens_mask=True)
    shown = ~encoded["special_tokens_mask"][0].bool()
    if not bool(shown.any()):
        raise EvaluationError("the text has no tokens", got=repr(text), fix="pass a text")
    found: dict[int, Floats] = {}

    def read(site: Site, keys: Tensor) -> None:
        assert site.layer is not None
        if layers is None or site.layer in layers:
            rows = keys.reshape(-1, keys.shape[-1])[shown.to(keys.device)]
            found[site.layer] = key_entropy(rows, norm).double().cpu().numpy()

    _, inner = transformers_model(model)
    ids = encoded["input_ids"].to(next(model.parameters()).device)
    with torch.no_grad(), reading_keys(model, read) as sites:
        missing = sorted(set(layers or ()) - {site.layer for site in sites.ffn_keys if site.layer is not None})
        if missing:
            raise EvaluationError("no such layer", got=missing, expected=f"0 to {sites.num_layers - 1}")
        inner.base_model(input_ids=ids)
    numbers = tuple(sorted(found))
    # Decoding one by one would break characters of several tokens; each token gets what the text grows by.
    tokens = _pieces(tokenizer, encoded["input_ids"][0][shown].tolist())
    return Flux(tokens, np.stack([found[number] for number in numbers]), numbers)


def _pieces(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> tuple[str, ...]:
    pieces, before = [], ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:end])
        whole = text.rstrip("\ufffd")
        pieces.append(whole[len(before) :] if whole.startswith(before) else "")
        before = whole if whole.startswith(before) else before
    return tuple(pieces)
