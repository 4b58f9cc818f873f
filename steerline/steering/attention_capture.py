"""Query and key of chosen attention modules, as they reach the attention kernel; the kernel stays the model's own.

Transformers' attention modules look their kernel up by name: `ALL_ATTENTION_FUNCTIONS.get_interface(name, eager)`, with
the name in `self.config`. A tapped module gets a shallow copy of its config with a name of ours, under which a function
is registered that calls the model's kernel and then shows query and key to the observers. Masks are made by the model
from its own config, which is not touched.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import CodeType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from steerline.errors import SteeringError
from steerline.models.anatomy import Site

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_PREFIX = "steerline_tapped_"


@dataclass(frozen=True)
class AttentionCall:
    """One call of an attention kernel.

    Args:
        query: [B, H, T, D], after rotary embedding.
        key: [B, Hkv, T, D]; Hkv divides H.
        value: [B, Hkv, T, D].
        scaling: of the scores.
        causal: whether a token sees only itself and what precedes it.
        softcap: c of `c tanh(scores / c)`; none where scores are not squashed.
        window: only keys less than this far away are seen; none sees all.
        output: computes the kernel's output [B, T, H, D] without dropout.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scaling: float
    causal: bool
    softcap: float | None
    window: int | None
    output: Callable[[], Tensor]

    def row(self, index: int) -> AttentionCall:
        """The call for one row of the batch; its `output` is still the whole batch's."""
        one = slice(index, index + 1)
        return replace(self, query=self.query[one], key=self.key[one], value=self.value[one])


Observer = Callable[[AttentionCall], None]


@dataclass
class _Tapped:
    config: PretrainedConfig
    kernel: Callable[..., Any]
    observers: list[Observer] = field(default_factory=list)


# Kept at the module itself, so that it goes when the module goes.
_KEY = "steerline_tapped"


class Tap:
    """One observer of one attention module, until `remove`."""

    def __init__(self, module: nn.Module, observer: Observer) -> None:
        self._module = module
        self._observer = observer

    def remove(self) -> None:
        """Stop observing; the last one to go puts the module's own config back. Removing twice does nothing."""
        attributes = vars(self._module)
        tapped: _Tapped | None = attributes.get(_KEY)
        if tapped is None or self._observer not in tapped.observers:
            return
        tapped.observers.remove(self._observer)
        if not tapped.observers:
            attributes["config"] = tapped.config
            del attributes[_KEY]


def tap(site: Site, family: str, observer: Observer) -> Tap:
    """Let `observer` see every call of the kernel at an attention site. The hooked module computes what it did before.

    Raises:
        SteeringError: the layer does not take its kernel from Transformers' attention interface.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    module = kernel_user(site, family)
    attributes = vars(module)
    if _KEY not in attributes:
        config = attributes["config"]
        name = str(config._attn_implementation)
        attributes[_KEY] = _Tapped(config, _kernel(module, name, site, family))
        ALL_ATTENTION_FUNCTIONS.register(_PREFIX + name, _tapped_attention)
        ours = copy.copy(config)
        # The property's setter would reach into the configs that the copy shares with the original.
        ours._attn_implementation_internal = _PREFIX + name
        attributes["config"] = ours
    attributes[_KEY].observers.append(observer)
    return Tap(module, observer)


def kernel_user(site: Site, family: str) -> nn.Module:
    """The module at an attention site that calls the kernel.

    Raises:
        SteeringError: none does, or several do.
    """
    found = [module for module in site.module.modules() if _calls_interface(module)]
    if len(found) != 1:
        raise _uncapturable(site, family, f"{type(site.module).__name__} does not take its kernel from Transformers")
    return found[0]


def attention_probabilities(call: AttentionCall, segment_ids: Tensor, positions: Tensor | None = None) -> Tensor:
    """What the kernel's softmax holds, [B, H, n, T], in float32 or wider; 0 throughout for padding queries.

    For checks: it is as large as it looks. Side losses go block by block.

    Args:
        call: the kernel's call.
        segment_ids: [B, T], 0 on padding, 1, 2, ... on the examples of a row, which do not see each other.
        positions: [n] queries; none takes all T.
    """
    T = segment_ids.shape[1]
    chosen = torch.arange(T, device=segment_ids.device) if positions is None else positions
    groups = call.query.shape[1] // call.key.shape[1]
    wide = torch.promote_types(call.query.dtype, torch.float32)
    query, key = call.query[:, :, chosen].to(wide), call.key.repeat_interleave(groups, dim=1).to(wide)
    scores = query @ key.mT * call.scaling
    if call.softcap is not None:
        scores = call.softcap * torch.tanh(scores / call.softcap)
    distance = chosen[:, None] - torch.arange(T, device=segment_ids.device)
    seen = (segment_ids[:, chosen, None] == segment_ids[:, None, :]) & (segment_ids > 0)[:, None, :]
    if call.causal:
        seen = seen & (distance >= 0)
    if call.window is not None:
        seen = seen & (distance.abs() < call.window)
    return scores.masked_fill(~seen[:, None], -torch.inf).softmax(-1).nan_to_num(0.0)


def _tapped_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> Any:
    tapped: _Tapped = vars(module)[_KEY]
    result = tapped.kernel(module, query, key, value, attention_mask, **kwargs)

    def output() -> Tensor:
        plain: Tensor = tapped.kernel(module, query, key, value, attention_mask, **{**kwargs, "dropout": 0.0})[0]
        return plain

    scaling = kwargs.get("scaling")
    # Kernels take a module without the flag for causal.
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    call = AttentionCall(
        query,
        key,
        value,
        query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        bool(causal),
        kwargs.get("softcap"),
        kwargs.get("sliding_window"),
        output,
    )
    for observer in tuple(tapped.observers):
        observer(call)
    return result


def _kernel(module: nn.Module, name: str, site: Site, family: str) -> Callable[..., Any]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if name in ALL_ATTENTION_FUNCTIONS:
        kernel: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS[name]
        return kernel
    forward = inspect.unwrap(type(module).forward)
    # The eager kernel has no name in the table: each model hands over its own.
    names = [found for found in _code(module).co_names if found.startswith("eager") and found in forward.__globals__]
    upcasts = bool(vars(module)["config"].to_dict().get("reorder_and_upcast_attn"))
    if name != "eager" or len(names) != 1 or upcasts:
        raise _uncapturable(site, family, f"its attention kernel `{name}` cannot be called from outside")
    eager: Callable[..., Any] = forward.__globals__[names[0]]
    return eager


def _calls_interface(module: nn.Module) -> bool:
    return "config" in vars(module) and "ALL_ATTENTION_FUNCTIONS" in _code(module).co_names


def _code(module: nn.Module) -> CodeType:
    code: CodeType = inspect.unwrap(type(module).forward).__code__
    return code


def _uncapturable(site: Site, family: str, why: str) -> SteeringError:
    return SteeringError(
        "attention probabilities cannot be recomputed at this layer",
        where=f"layer {site.layer} of {family}, {site.path}",
        got=why,
        expected="an attention module that calls a kernel of Transformers' attention interface",
        fix="set `model.attention: sdpa`, or leave the layer out of `interaction.layers`",
    )
