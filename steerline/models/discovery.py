"""The sites of an architecture that no table lists, from its structure alone.

- blocks: the one ModuleList of equal modules as long as the config's number of layers;
- attention: the outermost module of a block whose class says attention, or that owns query, key and value projections;
- FFN value projection: outside attention and other token mixers, the one projection from another width back to the
  hidden size.

Where there is more than one answer, or none, it says so instead of guessing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from steerline.errors import AnatomyError
from steerline.models.projections import is_projection, projection_shape, projections

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ATTENTION_CLASS = re.compile(r"attention|attn", re.IGNORECASE)
_CROSS_ATTENTION = re.compile(r"cross|encoder_attn|encdec", re.IGNORECASE)
_NOT_ATTENTION = re.compile(r"norm|dropout|mask", re.IGNORECASE)
_MIXER_CLASS = re.compile(r"(mixer|recurrentblock|shortconv|deltanet)$", re.IGNORECASE)
_QUERY = re.compile(r"^(q|query|qkv|c_attn|Wqkv)(_|$)|query_key_value", re.IGNORECASE)
_EXPERTS = re.compile(r"experts|moe\b|moeblock|sparsemlp", re.IGNORECASE)


@dataclass(frozen=True)
class LayerPaths:
    """Paths by layer number, relative to the model."""

    blocks: dict[int, str]
    attention: dict[int, str]
    ffn_values: dict[int, str]


def discover(
    root: PreTrainedModel, *, blocks: dict[int, str] | None = None, ffn_values: dict[int, str] | None = None
) -> LayerPaths:
    """Find the paths that are not given.

    Raises:
        AnatomyError: with the candidates and the config key that names the site by hand.
    """
    blocks = _blocks(root) if blocks is None else blocks
    attention: dict[int, str] = {}
    found: dict[int, str] = {}
    for layer, path in blocks.items():
        block = root.get_submodule(path)
        inside = _attention(block)
        # A layer without attention (a state-space mixer, say) is left out.
        if inside is not None:
            attention[layer] = f"{path}.{inside}"
        if ffn_values is None:
            found[layer] = f"{path}.{_ffn_values(root, path, block)}"
    return LayerPaths(blocks, attention, found if ffn_values is None else ffn_values)


def _refuse_experts(path: str, block: nn.Module) -> None:
    """Refuse a block whose FFN is a set of routed experts.

    Raises:
        AnatomyError: naming the module.
    """
    for name, module in block.named_modules():
        if _EXPERTS.search(type(module).__name__) or name.rsplit(".", 1)[-1] == "experts":
            raise AnatomyError(
                "this model routes tokens to experts: the FFN keys of a layer are not one tensor",
                where=f"{path}.{name} ({type(module).__name__})",
                expected="a dense FFN, whose value projection sees every token",
                fix="if a dense part sees every token (a shared expert), name its down projection under"
                ' model.sites.ffn_keys: "...{layer}..."',
            )


def _blocks(root: PreTrainedModel) -> dict[int, str]:
    wanted = _num_layers(root)
    lists = _uniform_lists(root)
    fitting = [path for path in lists if wanted is None or len(lists[path]) == wanted]
    if wanted is None and fitting:
        longest = max(len(lists[path]) for path in fitting)
        fitting = [path for path in fitting if len(lists[path]) == longest]
    # A model of images and text has two stacks: the language model's is the one it calls its decoder.
    decoder = {id(module) for module in root.get_decoder().modules()}
    inside = [path for path in fitting if id(lists[path]) in decoder]
    fitting = inside if len(fitting) > 1 else fitting
    # Some configs count otherwise (BART's decoder alone); a single stack leaves no choice.
    if not fitting and len(lists) == 1:
        fitting = [path for path, items in lists.items() if len(items) > 1]
    if len(fitting) != 1:
        listed = ", ".join(f"{path} ({len(lists[path])} x {type(lists[path][0]).__name__})" for path in lists)
        raise AnatomyError(
            f"cannot tell which modules are the residual blocks of {type(root).__name__}",
            got="candidates: " + (listed or "none: no list of equal modules"),
            expected="one list of equal modules" + (f", {wanted} of them" if wanted else ""),
            fix=f'name them in the config, e.g. model.sites.block_out: "{next(iter(lists), "model.layers")}.{{layer}}"',
        )
    return {layer: f"{fitting[0]}.{layer}" for layer in range(len(lists[fitting[0]]))}


def _uniform_lists(root: nn.Module) -> dict[str, nn.ModuleList]:
    """Lists of modules of one class that hold projections; lists inside such a list (heads, experts) are left out."""
    found: dict[str, nn.ModuleList] = {}
    for path, module in root.named_modules():
        if any(path.startswith(outer + ".") for outer in found):
            continue
        if isinstance(module, nn.ModuleList) and len({type(item) for item in module}) == 1 and any(projections(module)):
            found[path] = module
    return found


def _attention(block: nn.Module) -> str | None:
    """Path within the block; the outermost module that qualifies, cross attention aside."""
    candidates = [
        path
        for path, module in block.named_modules()
        if path and not _CROSS_ATTENTION.search(path) and not is_projection(module) and _is_attention(module)
    ]
    return min(candidates, key=lambda path: path.count("."), default=None)


def _is_attention(module: nn.Module) -> bool:
    kind = type(module).__name__
    if _ATTENTION_CLASS.search(kind) and not _NOT_ATTENTION.search(kind):
        return True
    return any(_QUERY.search(name) and is_projection(child) for name, child in module.named_children())


def _ffn_values(root: PreTrainedModel, path: str, block: nn.Module) -> str:
    _refuse_experts(path, block)
    hidden = _hidden_size(root)
    mixers = _mixer_paths(block)
    outside = {
        name: projection_shape(module)
        for name, module in projections(block)
        if not any(name.startswith(mixer + ".") for mixer in mixers)
    }
    back = [name for name, (_, out) in outside.items() if out == hidden]
    candidates = [name for name in back if outside[name][0] != hidden] or back
    if len(candidates) != 1:
        listed = ", ".join(f"{path}.{name} ({shape[0]} -> {shape[1]})" for name, shape in outside.items())
        example = next(iter(candidates or outside), "down_proj")
        template = re.sub(r"\.\d+$", ".{layer}", path)
        raise AnatomyError(
            f"cannot tell which projection of {path} ({type(block).__name__}) holds the FFN's values",
            got="candidates: " + (listed or "none"),
            expected=f"exactly one, outside attention and other token mixers, to the hidden size {hidden} from another",
            fix=f'name it in the config, e.g. model.sites.ffn_keys: "{template}.{example}"',
        )
    return candidates[0]


def _mixer_paths(block: nn.Module) -> list[str]:
    """Every module of the block that mixes tokens: attention, cross attention, state-space and recurrent mixers."""
    return [
        path
        for path, module in block.named_modules()
        if path and not is_projection(module) and (_is_attention(module) or _MIXER_CLASS.search(type(module).__name__))
    ]


def _num_layers(root: PreTrainedModel) -> int | None:
    return _config_int(root, "num_hidden_layers")


def _hidden_size(root: PreTrainedModel) -> int:
    declared = _config_int(root, "hidden_size")
    if declared is not None:
        return declared
    embedding = root.get_input_embeddings()
    if isinstance(embedding, nn.Embedding):
        return embedding.embedding_dim
    raise AnatomyError(
        "neither the config nor the embedding tells the hidden size",
        where=type(root).__name__,
        fix='name the FFN\'s value projection in the config: model.sites.ffn_keys: "...{layer}..."',
    )


def _config_int(root: PreTrainedModel, name: str) -> int | None:
    """A field of the language model's config under its usual name, whatever the family calls it."""
    config = root.config.get_text_config()
    names: Mapping[str, str] = config.attribute_map
    values: dict[str, Any] = config.to_dict()
    value = values.get(names.get(name, name))
    return value if isinstance(value, int) else None
