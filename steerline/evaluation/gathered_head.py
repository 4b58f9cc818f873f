"""Logits at chosen positions only, in float32 or better, from any Transformers causal model.

The language-model head is most of a small model's work and almost all of its memory at [B, T, V]; scoring needs a few
rows of it. Half-precision logits are also too coarse to choose by: near 20 a bfloat16 has steps of 0.125, so options
would often tie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from steerline.errors import EvaluationError


class _Head:
    """Hooks on the head: hand it the chosen positions, and redo its work in float32 where the model is in less."""

    def __init__(self) -> None:
        self.positions: Tensor | None = None
        self._redoing = False

    def gather(self, _head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._redoing:
            return None
        assert self.positions is not None
        hidden: Tensor = args[0]  # [B, T, D]
        return (hidden.reshape(1, -1, hidden.shape[-1])[:, self.positions], *args[1:])

    def widen(self, head: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if self._redoing or output.dtype not in (torch.bfloat16, torch.float16):
            return None
        # Cast for each batch, not once: a second copy of the head must not stay in memory.
        weights = {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in head.state_dict(keep_vars=True).items()
        }
        self._redoing = True
        try:
            return functional_call(head, weights, (args[0].float(), *args[1:]))  # type: ignore[no-any-return]
        finally:
            self._redoing = False


@contextmanager
def gathered_head(model: PreTrainedModel) -> Iterator[Callable[[Mapping[str, Tensor], Tensor], Tensor]]:
    """Inside, a function from a model's inputs [B, T] and flat positions [N] (row * T + place) to logits [N, V].

    Whatever the model does after its head (Gemma 2's soft cap) is done to them too.

    Raises:
        EvaluationError: the model has no language-model head, or is not causal.
    """
    head = model.get_output_embeddings()
    if head is None or not model.can_generate():
        raise EvaluationError(
            "likelihood needs a causal language model",
            got=type(model).__name__,
            expected="a decoder with a language-model head",
            fix="load the model for causal language modelling",
        )
    hooks = _Head()

    def logits_at(inputs: Mapping[str, Tensor], positions: Tensor) -> Tensor:
        hooks.positions = positions
        logits: Tensor = model(**inputs, use_cache=False).logits
        return logits[0].to(torch.promote_types(logits.dtype, torch.float32))

    handles = [head.register_forward_pre_hook(hooks.gather), head.register_forward_hook(hooks.widen)]
    try:
        with torch.no_grad():
            yield logits_at
    finally:
        for handle in handles:
            handle.remove()
