"""Where a model keeps its embedding, residual blocks, attention, FFN keys and logits.

    sites = anatomy(model)
    sites.ffn_keys[3].module.register_forward_pre_hook(...)

Known families come from a table (`families.py`), others are discovered from their structure (`discovery.py`), and any
site can be named by hand (`model.sites` in a config).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from steerline.errors import AnatomyError
from steerline.models.discovery import LayerPaths, discover
from steerline.models.families import FAMILIES, LOGIT_DIVISORS, LOGIT_MULTIPLIERS, SOFTCAP_KEYS
from steerline.models.projections import projection_shape

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

SITE_NAMES = ("embed", "block_out", "attention", "ffn_keys", "logits")
PER_LAYER = ("block_out", "attention", "ffn_keys")


@dataclass(frozen=True)
class Site:
    """One place in a forward pass.

    Args:
        name: one of `embed`, `block_out`, `attention`, `ffn_keys`, `logits`.
        layer: number of the layer, from 0; none for `embed` and `logits`.
        path: path of the module in the model that was asked about (`model.get_submodule(path)`).
        module: the module to hook. Under LoRA it is the adapted layer as a whole.
        side: whether the activation is the module's first input or its output.
        width: last dimension of the activation.

    An activation is [B, T, width]. OPT's FFN keys are [B * T, width]: view them as (B, T, width).
    A module may return a tuple whose first item is the activation: see `first_tensor` and `replace_first`.
    """

    name: str
    layer: int | None
    path: str
    module: nn.Module
    side: Literal["input", "output"]
    width: int


@dataclass(frozen=True)
class LogitRule:
    """What a model does to its head's output [..., V] to make logits of it; the identity in most families."""

    multiplier: float | None = None
    divisor: float | None = None
    softcap: float | None = None

    def __call__(self, head_output: Tensor) -> Tensor:
        """Logits [..., V] from the head's output [..., V], operation for operation as Transformers does it."""
        logits = head_output
        if self.multiplier is not None:
            logits = logits * self.multiplier
        if self.divisor is not None:
            logits = logits / self.divisor
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits


@dataclass(frozen=True)
class Anatomy:
    """All sites of one model.

    Args:
        family: `model_type` of its config.
        num_layers: number L of residual blocks.
        embed: output of the token embedding (before positions are added, where they are).
        block_out: output of each block, L of them.
        attention: output of each layer's attention, whose second item are the probabilities [B, H, T, T] under the
            eager kernel. L of them; fewer where some layers have none (then `Site.layer` tells which).
        ffn_keys: input of each FFN's value projection, L of them.
        logits: output of the head; none for a model without one. `logit_rule` makes logits of it.
        logit_rule: what the model does after its head.
    """

    family: str
    num_layers: int
    embed: Site
    block_out: tuple[Site, ...]
    attention: tuple[Site, ...]
    ffn_keys: tuple[Site, ...]
    logits: Site | None
    logit_rule: LogitRule = LogitRule()

    def all_sites(self) -> tuple[Site, ...]:
        """Every site, in the order of a forward pass within each kind."""
        head = () if self.logits is None else (self.logits,)
        return (self.embed, *self.block_out, *self.attention, *self.ffn_keys, *head)


def anatomy(model: nn.Module, sites: Mapping[str, str] | None = None) -> Anatomy:
    """Find the sites of a model. Nothing is run and nothing is changed.

    Args:
        model: a Transformers model, alone or inside wrappers (PEFT, DDP, `torch.compile`, an objective).
        sites: paths by hand for `SITE_NAMES`, with `{layer}` in those that exist per layer, e.g.
            `{"ffn_keys": "transformer.h.{layer}.mlp.c_proj"}`. Relative to the Transformers model.

    Raises:
        AnatomyError: the structure gives no single answer, a hand-written path leads nowhere, or the FFNs are routed
            experts, whose keys are not one tensor.
    """
    by_hand = dict(sites or {})
    _check_names(by_hand)
    prefix, root = transformers_model(model)
    paths = _Finder(root, by_hand).paths()

    def site(name: str, layer: int | None, path: str, width: Callable[[nn.Module], int]) -> Site:
        module = root.get_submodule(path)
        full = ".".join(part for part in (prefix, path) if part)
        side: Literal["input", "output"] = "input" if name == "ffn_keys" else "output"
        return Site(name, layer, full, module, side, width(module))

    keys = tuple(site("ffn_keys", i, path, _inputs_of) for i, path in sorted(paths.layers.ffn_values.items()))
    hidden = _outputs_of(keys[0].module)
    return Anatomy(
        family=str(_text_config(root).model_type),
        num_layers=len(paths.layers.blocks),
        embed=site("embed", None, paths.embed, _embedding_width),
        block_out=tuple(
            site("block_out", i, path, lambda _: hidden) for i, path in sorted(paths.layers.blocks.items())
        ),
        attention=tuple(
            site("attention", i, path, lambda _: hidden) for i, path in sorted(paths.layers.attention.items())
        ),
        ffn_keys=keys,
        logits=None if paths.head is None else site("logits", None, paths.head, _outputs_of),
        logit_rule=_logit_rule(_text_config(root)),
    )


def transformers_model(model: nn.Module) -> tuple[str, PreTrainedModel]:
    """The outermost Transformers model inside `model`, and its path there (empty where it is `model` itself).

    Raises:
        AnatomyError: there is none.
    """
    from transformers import PreTrainedModel

    for path, module in model.named_modules():
        if isinstance(module, PreTrainedModel):
            return path, module
    raise AnatomyError(
        "this is not a Transformers model, nor a wrapper around one",
        got=type(model).__name__,
        expected="a PreTrainedModel, or a module that holds one",
    )


def first_tensor(value: Any) -> Tensor:
    """The activation in what a hook receives: the value itself, or the first item of a tuple."""
    tensor = value[0] if isinstance(value, tuple | list) else value
    if not isinstance(tensor, Tensor):
        raise AnatomyError("the site's activation is not a tensor", got=type(tensor).__name__, expected="Tensor")
    return tensor


def replace_first(value: Any, tensor: Tensor) -> Any:
    """What a hook returns in place of `value`, with `tensor` as its activation and the rest of a tuple kept."""
    # A few old architectures (GPT-1) return lists.
    if isinstance(value, list):
        return [tensor, *value[1:]]
    return (tensor, *value[1:]) if isinstance(value, tuple) else tensor


@dataclass(frozen=True)
class _Paths:
    embed: str
    layers: LayerPaths
    head: str | None


class _Finder:
    """Paths of one Transformers model: by hand first, then from the table, then from the structure."""

    def __init__(self, root: PreTrainedModel, by_hand: Mapping[str, str]) -> None:
        self.root = root
        self.by_hand = by_hand
        self.modules = dict(root.named_modules())
        self.names = {id(module): path for path, module in self.modules.items()}

    def paths(self) -> _Paths:
        layers = self._layers()
        if set(layers.ffn_values) != set(layers.blocks):
            raise AnatomyError(
                "the FFN keys and the blocks do not have the same number of layers",
                got=f"{len(layers.ffn_values)} FFN value projections, {len(layers.blocks)} blocks",
                fix="name both under `model.sites` (`ffn_keys` and `block_out`)",
            )
        return _Paths(self._embedding(), layers, self._head())

    def _layers(self) -> LayerPaths:
        by_hand = {name: self._by_hand(name) for name in PER_LAYER if name in self.by_hand}
        known = self._from_table() or discover(
            self.root, blocks=by_hand.get("block_out"), ffn_values=by_hand.get("ffn_keys")
        )
        return LayerPaths(
            blocks=by_hand.get("block_out", known.blocks),
            attention=by_hand.get("attention", known.attention),
            ffn_values=by_hand.get("ffn_keys", known.ffn_values),
        )

    def _from_table(self) -> LayerPaths | None:
        """Paths by the table; none where it has no entry or the model is built otherwise than its entry says."""
        family = FAMILIES.get(_text_config(self.root).model_type)
        body = self.names.get(id(self.root.base_model))
        if family is None or body is None:
            return None
        found = LayerPaths(
            blocks=self._expand(body, family.block),
            attention=self._expand(body, family.attention),
            ffn_values=self._expand(body, family.ffn_values),
        )
        complete = found.blocks and found.blocks.keys() == found.attention.keys() == found.ffn_values.keys()
        return found if complete else None

    def _expand(self, body: str, template: str) -> dict[int, str]:
        """The path of every layer, from 0 until the first that does not exist."""
        found: dict[int, str] = {}
        while True:
            path = ".".join(part for part in (body, template.format(layer=len(found))) if part)
            if path not in self.modules:
                return found
            found[len(found)] = path

    def _by_hand(self, name: str) -> dict[int, str]:
        template = self.by_hand[name]
        if "{layer}" not in template:
            raise AnatomyError(
                f"the site `{name}` exists once per layer",
                where=f"model.sites.{name}",
                got=template,
                expected="a path with {layer} in it",
            )
        found = self._expand("", template)
        if not found:
            raise self._no_module(name, template.format(layer=0))
        return found

    def _embedding(self) -> str:
        if "embed" in self.by_hand:
            return self._existing("embed")
        family = FAMILIES.get(_text_config(self.root).model_type)
        body = self.names.get(id(self.root.base_model))
        if family is not None and family.embed is not None and body is not None:
            return ".".join(part for part in (body, family.embed) if part)
        module = self.root.get_input_embeddings()
        if module is None or id(module) not in self.names:
            raise self._unnamed("embed", nn.Embedding)
        path: str = self.names[id(module)]
        return path

    def _head(self) -> str | None:
        if "logits" in self.by_hand:
            return self._existing("logits")
        module = self.root.get_output_embeddings()
        return None if module is None else self.names[id(module)]

    def _existing(self, name: str) -> str:
        path = self.by_hand[name]
        if path not in self.modules:
            raise self._no_module(name, path)
        return path

    def _no_module(self, name: str, path: str) -> AnatomyError:
        near = difflib.get_close_matches(path, self.modules, n=5, cutoff=0.5)
        return AnatomyError(
            "no module has this path",
            where=f"model.sites.{name}",
            got=path,
            expected=", ".join(near) or f"a path inside {type(self.root).__name__}",
        )

    def _unnamed(self, name: str, kind: type[nn.Module]) -> AnatomyError:
        candidates = [path for path, module in self.modules.items() if isinstance(module, kind)]
        return AnatomyError(
            f"{type(self.root).__name__} does not say where its `{name}` is",
            got="candidates: " + (", ".join(candidates) or "none"),
            fix=f"name it in the config, e.g. model.sites.{name}: {candidates[0] if candidates else '...'!r}",
        )


def _check_names(sites: Mapping[str, str]) -> None:
    for name in sites:
        if name not in SITE_NAMES:
            near = difflib.get_close_matches(name, SITE_NAMES, n=1)
            raise AnatomyError(
                "no such site",
                where="model.sites",
                got=name,
                expected=", ".join(SITE_NAMES),
                fix=f"did you mean `{near[0]}`?" if near else None,
            )


def _text_config(root: PreTrainedModel) -> PretrainedConfig:
    # A model of images and text keeps the language model's own config inside.
    return root.config.get_text_config()


def _logit_rule(config: PretrainedConfig) -> LogitRule:
    values: dict[str, Any] = config.to_dict()
    kind = str(config.model_type)
    return LogitRule(
        multiplier=values[LOGIT_MULTIPLIERS[kind]] if kind in LOGIT_MULTIPLIERS else None,
        divisor=values[LOGIT_DIVISORS[kind]] if kind in LOGIT_DIVISORS else None,
        softcap=next((values[key] for key in SOFTCAP_KEYS if key in values), None),
    )


def _embedding_width(module: nn.Module) -> int:
    # Under `modules_to_save` and LoRA the embedding is wrapped.
    for inner in module.modules():
        if isinstance(inner, nn.Embedding):
            return inner.embedding_dim
    raise AnatomyError("the embedding site is not an embedding", got=type(module).__name__, expected="nn.Embedding")


def _inputs_of(module: nn.Module) -> int:
    return projection_shape(module)[0]


def _outputs_of(module: nn.Module) -> int:
    return projection_shape(module)[1]
