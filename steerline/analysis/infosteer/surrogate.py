"""What each memory would say: information surrogates and specificity (the paper's s 4.3).

FFN(h) W_decode = sum_i k_i v_i W_decode, so memory i adds k_i phi_i to the logits, with the surrogate phi_i = v_i
W_decode. P_i = softmax(phi_i), H(P_i) in nats, and Spec(v_i) = 1 - H(P_i) / ln V: 1 for a memory that says one token,
0 for one that says all of them alike.

The paper leaves open whether the model's final norm comes before W_decode (`norm`), and below which entropy a memory
counts as specialised (`SurrogateTable.specialised`). In a gated FFN keys have both signs, so a memory's opposite
-phi_i is as much part of it; `sign` chooses.

Legend: N memories looked at, F memories of a layer, D model width, V vocabulary, K top tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steerline.errors import EvaluationError
from steerline.models.anatomy import Anatomy, Site, anatomy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Norm = Literal["none", "rms"]

# Memories decoded at once; bounds the [chunk, V] logits (128 MiB in fp32 for a vocabulary of 128 Ki).
CHUNK = 256


@dataclass(frozen=True)
class SurrogateTable:
    """One row for each memory.

    Args:
        layer: its layer [N].
        memory: its index in the layer [N].
        entropy: H(P_i) in nats [N].
        specificity: Spec(v_i) in 0..1 [N].
        top_ids: its most probable tokens, best first [N, K].
        top_probabilities: their probabilities [N, K].
    """

    layer: Ints
    memory: Ints
    entropy: Floats
    specificity: Floats
    top_ids: Ints
    top_probabilities: Floats

    def __len__(self) -> int:
        return len(self.layer)

    def specialised(self, tau: float) -> SurrogateTable:
        """Memories whose entropy is below `tau` nats (the paper names no value), most specialised first."""
        order = np.argsort(self.entropy, kind="stable")
        return self.take(order[self.entropy[order] < tau])

    def most_specific(self, count: int) -> SurrogateTable:
        """The `count` most specialised memories, best first."""
        return self.take(np.argsort(-self.specificity, kind="stable")[:count])

    def take(self, rows: Ints) -> SurrogateTable:
        """Some rows, in the given order."""
        return SurrogateTable(
            self.layer[rows],
            self.memory[rows],
            self.entropy[rows],
            self.specificity[rows],
            self.top_ids[rows],
            self.top_probabilities[rows],
        )

    def rows(self, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """The table with tokens as text, for a data frame or a JSON file."""
        return [
            {
                "layer": int(self.layer[i]),
                "memory": int(self.memory[i]),
                "entropy_nats": float(self.entropy[i]),
                "specificity": float(self.specificity[i]),
                "tokens": [tokenizer.decode([token]) for token in self.top_ids[i].tolist()],
                "probabilities": self.top_probabilities[i].tolist(),
            }
            for i in range(len(self))
        ]


def surrogates(
    model: nn.Module,
    *,
    memories: Mapping[int, Sequence[int] | None] | None = None,
    top: int = 10,
    norm: Norm = "none",
    sign: Literal[1, -1] = 1,
    sites: Anatomy | None = None,
) -> SurrogateTable:
    """Decode memories through the language-model head.

    Args:
        model: its value projections and head are read; nothing attached to them acts. memories: layer -> indices of
        memories, or None for all of that layer; by default all of all layers. top: tokens to name for each memory, the
        paper's K. norm: "none" decodes v_i itself; "rms" scales it to a root mean square of 1 first, as a final norm
        without weights
            would, which makes layers with vectors of different length comparable.
        sign: 1 for phi_i, -1 for what a negative key makes of it.
        sites: the model's anatomy, where it is already known.

    Raises:
        EvaluationError: the model has no head, or a layer or memory does not exist.
    """
    found = sites or anatomy(model)
    if found.logits is None:
        raise EvaluationError("surrogates need a language-model head", got=found.family, fix="load a causal model")
    by_layer = {site.layer: site for site in found.ffn_keys if site.layer is not None}
    wanted = dict.fromkeys(by_layer) if memories is None else dict(memories)
    parts = []
    with torch.no_grad():
        for layer, indices in wanted.items():
            site = _site(by_layer, layer)
            chosen = np.arange(site.width) if indices is None else _checked(indices, site)
            for chunk in _chunks(chosen):
                vectors = _scaled(sign * value_vectors(site.module, chunk, site.width), norm)
                parts.append((np.full(len(chunk), layer), chunk, *_decode(found.logits.module, vectors, top)))
    if not parts:
        raise EvaluationError("no memory was chosen", fix="name at least one layer and memory")
    return SurrogateTable(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def value_vectors(projection: nn.Module, indices: Ints, width: int) -> Tensor:
    """The rows v_i of W_down [N, D], in float32, with any adapter's part in them.

    They are what unit keys give, so the layout of the weights (Linear, Conv1D, LoRA) does not matter. `forward` is
    called past the module's hooks: what is attached there acts on a token's keys, not on the memories.
    """
    parameter = next(projection.parameters())
    keys = torch.zeros(len(indices) + 1, width, dtype=parameter.dtype, device=parameter.device)
    keys[torch.arange(len(indices)), torch.from_numpy(indices)] = 1
    out: Tensor = projection.forward(keys)
    return out[:-1].float() - out[-1].float()  # the last row holds no key: the bias


def _decode(head: nn.Module, vectors: Tensor, top: int) -> tuple[Floats, Floats, Ints, Floats]:
    dtype = next(head.parameters()).dtype
    zero = torch.zeros_like(vectors[:1])
    logits: Tensor = head.forward(torch.cat([vectors, zero]).to(dtype))
    surrogate = logits[:-1].float() - logits[-1].float()  # without the head's bias [N, V]
    log_p = surrogate.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    best = log_p.topk(top, dim=-1)
    specificity = 1 - entropy / math.log(surrogate.shape[-1])
    return (
        entropy.double().cpu().numpy(),
        specificity.double().cpu().numpy(),
        best.indices.cpu().numpy(),
        best.values.exp().double().cpu().numpy(),
    )


def _scaled(vectors: Tensor, norm: Norm) -> Tensor:
    if norm == "none":
        return vectors
    return vectors / vectors.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-12)


def _chunks(indices: Ints) -> Iterator[Ints]:
    for start in range(0, len(indices), CHUNK):
        yield indices[start : start + CHUNK]


def _site(by_layer: Mapping[int, Site], layer: int) -> Site:
    if layer not in by_layer:
        raise EvaluationError("no such layer", got=layer, expected=f"0 to {max(by_layer)}")
    return by_layer[layer]


def _checked(indices: Sequence[int], site: Site) -> Ints:
    array = np.asarray(indices, dtype=np.int64)
    if array.ndim != 1 or (array.size and not (array.min() >= 0 and array.max() < site.width)):
        raise EvaluationError(
            "no such memory", where=f"layer {site.layer}", got=list(indices), expected=f"0 to {site.width - 1}"
        )
    return array
