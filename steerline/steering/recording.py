"""What is gathered at the sites during a forward pass: entropies, and the keys that were picked."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from steerline.errors import SteeringError
from steerline.steering.ops import Picked
from steerline.steering.rows import Norm, statistics_dtype


@dataclass(frozen=True)
class Selection:
    """The keys picked in one forward pass, and their signs: per layer, of the N tokens of the batch, row by row.

    The signs belong to it because the smallest keys lie next to 0, where rounding turns signs as it swaps ranks.
    """

    layers: dict[int, Picked] = field(default_factory=dict)

    def rows(self, start: int, stop: int, batch_size: int) -> Selection:
        """The selection of batch rows start to stop, of a selection made on `batch_size` rows."""

        def cut(part: Tensor) -> Tensor:
            return part.view(batch_size, -1, part.shape[-1])[start:stop].reshape(-1, part.shape[-1])

        return Selection({layer: Picked(*map(cut, picked)) for layer, picked in self.layers.items()})


class Recording:
    """Entropies of one forward pass, summed over the chosen tokens (nats).

    Attributes:
        entropy_layers: the layers of the side loss, ascending.
        num_tokens: how many tokens were chosen in this batch (scalar tensor).
        measured: per layer, the entropy sum without gradient.
    """

    def __init__(self, entropy_layers: tuple[int, ...], tokens: Tensor, norm: Norm) -> None:
        self.entropy_layers = entropy_layers
        self.num_tokens = tokens.sum()
        self.norm = norm
        self.measured: dict[int, Tensor] = {}
        self._tokens = tokens.reshape(-1)
        self._sums: dict[int, Tensor] = {}
        self._wants_grad = torch.is_grad_enabled()

    def entropy_sums(self) -> Tensor:
        """The side loss's entropies [L'], one per layer of `entropy_layers`, in the graph.

        Raises:
            SteeringError: no forward pass went through the model while recording.
        """
        if not self.entropy_layers:
            return torch.zeros(0, device=self.num_tokens.device)
        missing = [layer for layer in self.entropy_layers if layer not in self._sums]
        if missing:
            raise SteeringError(
                "no forward pass was recorded in some layers",
                got=f"layers {missing}",
                fix="run the whole model once inside `recording(...)`",
            )
        return torch.stack([self._sums[layer] for layer in self.entropy_layers])

    def token_weights(self, layer: int, keys: Tensor) -> Tensor:
        """1 for chosen tokens and 0 for others, [N], for the keys [..., F] of a layer that is about to be recorded.

        Raises:
            SteeringError: the masks do not fit, a second forward pass came, or its gradient cannot arrive.
        """
        num_tokens = keys.shape[:-1].numel()
        if self._tokens.numel() != num_tokens:
            raise SteeringError(
                "the token masks do not fit the batch that went through the model",
                where=f"layer {layer}",
                got=f"masks of {self._tokens.numel()} tokens, keys of {num_tokens}",
                fix="pass masks [B, T] of the same batch; routed experts are not supported",
            )
        if layer in self._sums or layer in self.measured:
            raise SteeringError(
                "a recording holds one forward pass, and a second one came", where=f"layer {layer}",
                fix="open `recording(...)` once per forward pass",
            )  # fmt: skip
        if layer in self.entropy_layers and self._wants_grad and not torch.is_grad_enabled():
            raise SteeringError(
                "the entropy was computed where its gradient cannot arrive: inside reentrant activation checkpointing",
                where=f"layer {layer}",
                expected="non-reentrant checkpointing; when no gradient is wanted, torch.no_grad() around `recording`",
                fix="use_reentrant=False",
            )
        return self._tokens.to(keys.device, statistics_dtype(keys))

    def add_loss(self, layer: int, total: Tensor) -> None:
        """Files a layer's entropy sum, in the graph."""
        self._sums[layer] = total
        self.measured[layer] = total.detach()


def picked_before(selection: Selection, layer: int, n: int, keys: Tensor) -> Picked:
    """What `selection` holds for the keys [N, F] of a layer.

    Raises:
        SteeringError: it holds none, or indices of another shape or beyond F.
    """
    N, F = keys.shape
    picked = selection.layers.get(layer)
    # The kernels trust their indices, so none may point outside a row.
    if (
        picked is None
        or picked.indices.shape != (N, n)
        or picked.signs.shape != (N, n)
        or bool(((picked.indices < 0) | (picked.indices >= F)).any())
    ):
        raise SteeringError(
            "the replayed selection does not fit this forward pass",
            where=f"layer {layer}",
            got="nothing for this layer" if picked is None else f"indices of shape {list(picked.indices.shape)}",
            expected=f"indices of shape {[N, n]}, from 0 to {F - 1}",
            fix="replay a selection recorded with the same steering on a batch of the same shape",
        )
    return Picked(
        picked.indices.to(keys.device, torch.int32).contiguous(), picked.signs.to(keys.device, torch.int8).contiguous()
    )
