"""VMASK: a gate on token embeddings that learns which tokens matter (Chen & Ji, EMNLP 2020; as used by SAFR)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

GATE_FILE = "vmask.safetensors"
"""Name of the file beside a model that holds a gate which was added to it."""


class VmaskGate(nn.Module):
    """Multiplies each token's embedding by a gate r in [0, 1].

    Two scores per token, `p = W2 tanh(W1 e + b1) + b2`; the second is for keeping it. In training r is 0 or 1, drawn by
    the straight-through Gumbel softmax: the forward pass sees the hard draw, the backward pass the soft one. In
    evaluation r is the probability of keeping, at temperature 1: the temperature belongs to the draw.

    Args:
        width: E, width of the embeddings.
        hidden_size: width of the tanh layer.
        temperature: of the Gumbel softmax, > 0. May be changed between steps.
    """

    def __init__(self, width: int, hidden_size: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden_size)
        self.scores = nn.Linear(hidden_size, 2)
        self.temperature = temperature

    def forward(self, embeddings: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Gate the embeddings.

        Args:
            embeddings: e, [B, T, E].
            noise: standard Gumbel numbers [B, T, 2] for the draw in training; none draws them here.

        Returns:
            r * e, [B, T, E], and r, [B, T], both in the embeddings' dtype.
        """
        log_probabilities = self.log_probabilities(embeddings)
        if self.training:
            drawn = _straight_through(log_probabilities, noise, self.temperature)
        else:
            drawn = log_probabilities.exp()
        gate = drawn[..., 1].to(embeddings.dtype)
        return embeddings * gate.unsqueeze(-1), gate

    def log_probabilities(self, embeddings: Tensor) -> Tensor:
        """Log-probabilities of dropping and of keeping each token, [B, T, 2], in float32 or wider."""
        scores = self.scores(torch.tanh(self.hidden(embeddings)))
        return nn.functional.log_softmax(scores if scores.dtype == torch.float64 else scores.float(), dim=-1)


def save_gate(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write a gate's state dict beside a model: needed where the gate multiplies the embeddings."""
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / GATE_FILE)


def _straight_through(log_probabilities: Tensor, noise: Tensor | None, temperature: float) -> Tensor:
    """The hard draw in the forward pass, the soft one in the backward pass."""
    if noise is None:
        return nn.functional.gumbel_softmax(log_probabilities, tau=temperature, hard=True)
    soft = ((log_probabilities + noise) / temperature).softmax(dim=-1)
    hard = nn.functional.one_hot(soft.argmax(dim=-1), 2).to(soft.dtype)
    return hard - soft.detach() + soft
