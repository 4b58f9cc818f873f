"""A model of two bare FFNs whose keys can be looked at, and its anatomy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from steerline.models.anatomy import Anatomy, Site

D, F, LAYERS = 6, 20, 2


class Ffn(nn.Module):
    """tanh FFN; flattens its tokens as OPT does where told to."""

    def __init__(self, flatten: bool) -> None:
        super().__init__()
        self.up = nn.Linear(D, F)
        self.down = nn.Linear(F, D)
        self.flatten = flatten

    def keys(self, x: Tensor) -> Tensor:
        """In the shape in which they are computed: on some processors another one rounds otherwise."""
        return torch.tanh(self.up(x.reshape(-1, D) if self.flatten else x))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.keys(x)).view(x.shape)


class Ffns(nn.Module):
    """[B, T, D] -> [B, T, D]. After a forward pass `seen` holds the keys that each value projection was given."""

    def __init__(self, dtype: torch.dtype = torch.float64, flatten: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.ModuleList(Ffn(flatten) for _ in range(LAYERS))
        self.to(dtype)
        self.embed = nn.Identity()
        self.seen: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def watch(self) -> Ffns:
        """Keep what each value projection receives; call it after attaching, so that edits are seen."""
        for number, layer in enumerate(self.layers):
            layer.down.register_forward_pre_hook(lambda _, inputs, number=number: self.seen.update({number: inputs[0]}))
        return self

    def anatomy(self) -> Anatomy:
        keys = tuple(
            Site("ffn_keys", number, f"layers.{number}.down", layer.down, "input", F)
            for number, layer in enumerate(self.layers)
        )
        embed = Site("embed", None, "embed", self.embed, "output", D)
        return Anatomy("ffns", LAYERS, embed, (), (), keys, None)


def batch(dtype: torch.dtype = torch.float64, rows: int = 3, tokens: int = 5) -> Tensor:
    """Inputs [B, T, D]; the same numbers every time."""
    return torch.randn(rows, tokens, D, dtype=dtype, generator=torch.Generator().manual_seed(7))
