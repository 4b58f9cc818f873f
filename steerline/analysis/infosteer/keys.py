"""Measure a model's key coefficients on held-out batches, layer by layer, in one pass that keeps no activations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steerline.analysis.infosteer.histogram import KeyHistogram
from steerline.data.batch import Batch
from steerline.errors import EvaluationError
from steerline.models.anatomy import Anatomy, Site, anatomy, first_tensor, transformers_model
from steerline.steering.infosteer import key_entropy
from steerline.steering.rows import Norm

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class KeyMeasurement:
    """Keys of one model on one set of tokens.

    Args:
        histogram: all key coefficients, by layer.
        entropy: mean entropy of the key distribution by layer [L], in nats per token.
        num_keys: keys of each layer [L].
        num_tokens: tokens measured.
    """

    histogram: KeyHistogram
    entropy: Floats
    num_keys: tuple[int, ...]
    num_tokens: int

    @property
    def layers(self) -> tuple[int, ...]:
        """Layer numbers, in the order of the other fields."""
        return self.histogram.layers

    @property
    def effective_memories(self) -> Floats:
        """exp(mean entropy) [L]: how many equally used keys would have this entropy."""
        return np.exp(self.entropy)


@contextmanager
def reading_keys(
    model: nn.Module, read: Callable[[Site, Tensor], None], *, sites: Anatomy | None = None
) -> Iterator[Anatomy]:
    """Inside, `read(site, keys)` is called with each layer's keys [..., F] in every forward pass.

    The keys are those that multiply the value projection: with steering attached before, the steered ones.
    """
    found = sites or anatomy(model)

    def hook(site: Site) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, args: read(site, first_tensor(args).detach())

    handles = [site.module.register_forward_pre_hook(hook(site)) for site in found.ffn_keys]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def measure_keys(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    norm: Norm = "abs_l1",
    sites: Anatomy | None = None,
) -> KeyMeasurement:
    """Count the keys and average their entropy over every token that is not padding.

    Args:
        model: in the mode and with the steering to be measured; gradients are off meanwhile.
        batches: held-out batches; compare models on the same ones.
        norm: how signed keys become a distribution (`key_entropy`).
        sites: the model's anatomy, where it is already known.

    Raises:
        EvaluationError: there are no tokens, or a key is not finite.
    """
    found = sites or anatomy(model)
    layers = tuple(_layer(site) for site in found.ffn_keys)
    histogram = KeyHistogram.empty(layers)
    sums = dict.fromkeys(layers, 0.0)
    mask: Tensor | None = None

    def read(site: Site, keys: Tensor) -> None:
        assert mask is not None
        chosen = keys.reshape(-1, keys.shape[-1])[mask]  # [tokens, F]; OPT's keys come without a batch dimension
        histogram.add(_layer(site), chosen)
        sums[_layer(site)] += float(key_entropy(chosen, norm).double().sum())

    num_tokens = 0
    _, inner = transformers_model(model)
    device = next(model.parameters()).device
    with torch.no_grad(), reading_keys(model, read, sites=found):
        for batch in batches:
            mask = batch.token_mask.reshape(-1).to(device)
            num_tokens += int(mask.sum())
            # The body alone: the keys do not need the head's [B, T, V] logits.
            inner.base_model(**batch.to(device).model_inputs(inner.config))
    if num_tokens == 0:
        raise EvaluationError("there are no tokens to measure keys on", fix="pass at least one held-out batch")
    entropy = np.array([sums[layer] for layer in layers]) / num_tokens
    return KeyMeasurement(histogram, entropy, tuple(site.width for site in found.ffn_keys), num_tokens)


def _layer(site: Site) -> int:
    assert site.layer is not None
    return site.layer
