"""Proof that a model keeps the examples of a packed row apart: run it and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from steerline.data.batch import Batch, collate
from steerline.data.tokens import TokenizedExample
from steerline.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

_LENGTHS = (7, 5, 9)
# Kernels differ in the last bits of 16-bit floats; a leak moves the logits by the order of their own size.
_TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 2e-1}


@torch.no_grad()
def verify_isolation(model: PreTrainedModel, seed: int = 0) -> float:
    """Check that packing changes nothing for this model. Two passes over a few random tokens.

    Args:
        model: any causal language model; its train/eval mode is restored.
        seed: seed of the tokens.

    Returns:
        The largest change of a logit, relative to the largest logit.

    Raises:
        DataError: this model would let the examples of a packed row see each other.
    """
    generator = np.random.default_rng(seed)
    highest = model.get_input_embeddings().weight.shape[0]
    examples = [_random_example(generator, highest, length) for length in _LENGTHS]
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        packed = _logits(model, collate([tuple(examples)], 0).to(device))[0]
        alone = [_logits(model, collate([(example,)], 0, 1).to(device))[0] for example in examples]
    finally:
        model.train(was_training)
    together = torch.cat(alone)
    change = float((packed[: len(together)] - together).abs().max() / together.abs().max().clamp_min(1e-12))
    if not change <= _TOLERANCES[model.dtype]:
        raise DataError(
            "this model would let the examples of a packed row see each other",
            where="data.packing",
            got=f"{model.config.model_type}: packing changes its logits by {change:.1e} of their size",
            expected=f"at most {_TOLERANCES[model.dtype]:.0e}",
            fix="set `data.packing: false`",
        )
    return change


def _random_example(generator: np.random.Generator, highest: int, length: int) -> TokenizedExample:
    # The lowest ids are often padding, which some models treat apart.
    ids = generator.integers(min(4, highest - 1), highest, length).astype(np.int32)
    return TokenizedExample("random", ids, np.ones(length, dtype=np.bool_))


def _logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    logits: Tensor = model(**batch.model_inputs(model.config)).logits
    return logits.float() if logits.dtype != torch.float64 else logits
