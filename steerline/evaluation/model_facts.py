"""What evaluation needs to know about a model, read from its config."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from steerline.errors import EvaluationError
from steerline.models.anatomy import transformers_model

# Families whose attention takes a mask per query and explicit positions, each proven by a test. Others are scored one
# option a row, which is slower and always right.
BRANCHING_FAMILIES = frozenset(
    {
        "gpt2",
        "gpt_neox",
        "opt",
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma2",
        "gemma3_text",
        "phi",
        "phi3",
    }
)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's inputs belong."""
    return next(model.parameters()).device


def context_length(model: nn.Module) -> int | None:
    """Longest sequence in tokens, or None where the model states none."""
    config = transformers_model(model)[1].config.get_text_config().to_dict()
    lengths = [config.get(name) for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")]
    return next((length for length in lengths if isinstance(length, int)), None)


def check_length(model: nn.Module, num_tokens: int, item: str) -> None:
    """Refuse an item that does not fit into the model's context.

    Raises:
        EvaluationError: it does not.
    """
    limit = context_length(model)
    if limit is not None and num_tokens > limit:
        raise EvaluationError(
            "an item is longer than the model's context",
            where=f"item {item}",
            got=f"{num_tokens} tokens",
            expected=f"at most {limit}",
            fix="leave the item out of the data set, lower `max_new_tokens`, or use a model with a longer context",
        )


def supports_branches(model: nn.Module, num_tokens: int) -> bool:
    """Whether rows with branches of this length give the same probabilities as separate rows.

    A mask given from outside replaces a sliding window, so such a model takes branches only within its window.
    """
    config = transformers_model(model)[1].config.get_text_config()
    window = config.to_dict().get("sliding_window")
    return (
        config.model_type in BRANCHING_FAMILIES
        and config._attn_implementation in ("sdpa", "eager")
        and (window is None or num_tokens <= window)
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
