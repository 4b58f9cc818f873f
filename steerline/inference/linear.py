"""A model's linear maps, laid out for passes over few tokens.

Libraries bring a weight into the order of their kernels anew in each product, which takes longer than the product of a
few tokens itself. A model that is only read can keep it in that order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from steerline.inference import native_linear


def pack(model: PreTrainedModel) -> None:
    """Lays the weights of linear maps out in panels, and makes one product of those that read the same tensor.

    The model keeps its modules, with their hooks, and loses these weights: it can go on computing and nothing else. An
    embedding that shares the head's weight reads the panels, too. On other devices and in other precisions, or without
    a compiler, nothing changes; nor does what is packed already.
    """
    for maps in _by_input(model):
        product = _Product([_weight(one) for one in maps], [one.bias for one in maps])
        for module in model.modules():
            if type(module) is nn.Embedding and len(maps) == 1 and module.weight is maps[0].weight:
                _take_over(module, product.rows)
        for number, one in enumerate(maps):
            _take_over(one, partial(product.part, number))


class _Product:
    """The linear maps that read one tensor, as one product. Each has its part of the result."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> None:
        self._widths = [len(weight) for weight in weights]
        self._panels = native_linear.in_panels(torch.cat(list(weights)))
        self._bias: Tensor | None = None
        if any(bias is not None for bias in biases):
            self._bias = torch.zeros(len(self._panels) * native_linear.PANEL)
            parts = torch.split(self._bias[: sum(self._widths)], self._widths)
            for bias, part in zip(biases, parts, strict=True):
                if bias is not None:
                    part.copy_(bias.detach())
        self._last: tuple[Tensor, Sequence[Tensor]] | None = None

    def part(self, number: int, x: Tensor) -> Tensor:
        """One map's output [..., N] for its input [..., K]."""
        if len(self._widths) == 1:
            return native_linear.linear(x, self._panels, self._bias, self._widths[0])
        last = self._last
        # Another input, by a hook perhaps, is no part of what was computed for the others.
        if last is None or last[0] is not x:
            out = native_linear.linear(x, self._panels, self._bias, sum(self._widths))
            last = x, out.split_with_sizes(self._widths, dim=-1)
        self._last = None if number == len(self._widths) - 1 else last
        return last[1][number]

    def rows(self, numbers: Tensor) -> Tensor:
        """Rows of the weight, for an embedding."""
        return native_linear.rows(self._panels, numbers)


def _by_input(model: PreTrainedModel) -> list[list[Any]]:
    """Linear maps that can be packed, those together that read the same tensor, in the order in which they run."""
    maps = [module for module in model.modules() if type(module) in (nn.Linear, Conv1D) and module.weight is not None]
    maps = [one for one in maps if native_linear.handles(_weight(one))]
    if not maps:
        return []
    runs: Counter[nn.Module] = Counter()
    seen: dict[int, tuple[Tensor, list[nn.Module]]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
        runs[module] += 1
        seen.setdefault(id(inputs[0]), (inputs[0], []))[1].append(module)

    hooks = [one.register_forward_pre_hook(note) for one in maps]
    try:
        with torch.inference_mode():
            model.base_model(input_ids=torch.zeros(1, 2, dtype=torch.long), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    once = [[one for one in together if runs[one] == 1] for _, together in seen.values()]
    head = model.get_output_embeddings()
    return [together for together in [*once, [one for one in maps if one is head]] if together]


def _weight(one: Any) -> Tensor:
    """[N, K]."""
    weight: Tensor = one.weight
    return weight.detach().T if type(one) is Conv1D else weight.detach()


def _take_over(module: nn.Module, forward: Any) -> None:
    module.forward = forward
    module.register_parameter("weight", None)
