"""Many copies of a batch in one forward pass: what no copy changes is computed once.

    with fanned_out(anatomy, first_layer=20) as fan:
        fan.copies = 32
        model(input_ids)  # [B, T]; layers 20 and up, and the head, see 32 * B rows

Copy c of row b is row c * B + b. The layers below `first_layer` run on the B rows alone, so a mechanism may act from
there on only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from steerline.models.anatomy import Anatomy


class FanOut:
    """Pre-hooks on blocks. `copies` may change between passes; 1 changes nothing."""

    def __init__(self) -> None:
        self.copies = 1
        self._rows = 0
        # Masks and positions are the same tensors for every block of a pass. Kept beside their copies, so that no id
        # is used twice.
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def enter(self, is_first: bool, _block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a block is called with: its hidden states [B, T, D] from the first one on, and all that goes by rows."""
        if self.copies == 1:
            return None
        positional = bool(args)
        hidden: Tensor = args[0] if positional else kwargs["hidden_states"]
        if is_first:
            self._rows, self._known = hidden.shape[0], {}
            hidden = self._copied(hidden)
        others = self._spread(args[1:])
        named = {name: self._spread(value) for name, value in kwargs.items() if name != "hidden_states"}
        return ((hidden, *others), named) if positional else (others, {"hidden_states": hidden, **named})

    def _spread(self, value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(self._spread(item) for item in value)
        if isinstance(value, dict):
            return {key: self._spread(item) for key, item in value.items()}
        if not isinstance(value, Tensor) or value.ndim < 2 or value.shape[0] != self._rows:
            return value
        if id(value) not in self._known:
            self._known[id(value)] = (value, self._copied(value))
        return self._known[id(value)][1]

    def _copied(self, tensor: Tensor) -> Tensor:
        return tensor.expand(self.copies, *tensor.shape).flatten(0, 1)


@contextmanager
def fanned_out(anatomy: Anatomy, first_layer: int) -> Iterator[FanOut]:
    """While inside, passes without a cache run the layers from `first_layer` on with `copies` times as many rows.

    Args:
        anatomy: of the model.
        first_layer: the first one that copies differ in.
    """
    fan = FanOut()
    # First of each block's hooks: those of a mechanism see the rows that the block sees.
    handles = [
        site.module.register_forward_pre_hook(
            partial(fan.enter, site.layer == first_layer), with_kwargs=True, prepend=True
        )
        for site in anatomy.block_out[first_layer:]
    ]
    try:
        yield fan
    finally:
        for handle in handles:
            handle.remove()
