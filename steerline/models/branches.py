"""Where attention and FFN are added to the residual stream, for the families of the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from steerline.errors import AnatomyError
from steerline.models.anatomy import Anatomy, Site, transformers_model
from steerline.models.families import FAMILIES


@dataclass(frozen=True)
class Branches:
    """The two summands of one block: modules whose output [B, T, D] is added to the residual stream.

    OPT flattens its tokens before the FFN: that output is [B * T, D]. Norms that follow the sum (BERT, RoBERTa,
    DistilBERT) come after both.
    """

    attention: nn.Module
    ffn: nn.Module


def residual_branches(model: nn.Module, anatomy: Anatomy) -> Mapping[int, Branches]:
    """The branches of every layer, by its number.

    Raises:
        AnatomyError: the table has no entry for this family, and its structure does not tell what is added.
    """
    family = FAMILIES.get(anatomy.family)
    if family is None:
        raise AnatomyError(
            "it is not known what this architecture adds to its residual stream",
            got=anatomy.family,
            expected=f"one of {', '.join(sorted(FAMILIES))}",
            fix="scale whole blocks: `split: false`",
        )
    _, root = transformers_model(model)
    body = root.base_model

    def module(site: Site, template: str | None) -> nn.Module:
        return site.module if template is None else body.get_submodule(template.format(layer=site.layer))

    found: dict[int, Branches] = {}
    for attention, ffn in zip(anatomy.attention, anatomy.ffn_keys, strict=True):
        assert attention.layer is not None
        found[attention.layer] = Branches(module(attention, family.attention_branch), module(ffn, family.ffn_branch))
    return found
