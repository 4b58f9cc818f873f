"""Prove on one short forward pass that the sites of a model are what they claim to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from steerline.errors import AnatomyError
from steerline.models.anatomy import Anatomy, Site, anatomy, first_tensor, transformers_model
from steerline.models.families import FAMILIES

NUM_TOKENS = 4


def prove_untried(model: nn.Module, sites: Mapping[str, str]) -> None:
    """Prove the sites of a model for which the table of families does not vouch, before a long run rests on them.

    Args:
        model: whole, not partitioned over workers.
        sites: those named by hand (`model.sites`).

    Raises:
        AnatomyError: there are no such sites, or they are not what they claim to be.
    """
    found = anatomy(model, sites)
    if sites or found.family not in FAMILIES:
        prove(model, found)


def prove(model: nn.Module, found: Anatomy) -> None:
    """Run a few tokens through `model` and check each site of `found`.

    Each site must be reached exactly once, with an activation of its width for every token, and the head's output under
    `logit_rule` must be the model's logits bit for bit. Worth its one forward pass for an architecture that was never
    tried; to be called before the weights are partitioned over workers.

    Raises:
        AnatomyError: naming the site and what was seen there.
    """
    _, root = transformers_model(model)
    device = next(root.parameters()).device
    # Any ids will do; the first ones are inside every vocabulary, and 0 may be padding.
    input_ids = torch.arange(1, 1 + NUM_TOKENS, device=device).unsqueeze(0)
    was_training = root.training
    root.eval()
    try:
        with _watched(found) as seen, torch.no_grad():
            outputs = root(input_ids=input_ids, use_cache=False) if found.logits else root(input_ids=input_ids)
    finally:
        root.train(was_training)
    for site in found.all_sites():
        _check(site, seen[site.path, site.side])
    if found.logits is not None:
        raw = seen[found.logits.path, found.logits.side][0]
        _check_logits(found, raw, outputs.logits)


@contextmanager
def _watched(found: Anatomy) -> Iterator[dict[tuple[str, str], list[Tensor]]]:
    """Activations by (path, side), in order of arrival."""
    seen: dict[tuple[str, str], list[Tensor]] = {(site.path, site.side): [] for site in found.all_sites()}
    handles = []

    def watch(site: Site) -> None:
        arrivals = seen[site.path, site.side]

        def before(_: nn.Module, args: Any) -> None:
            arrivals.append(first_tensor(args))

        def after(_: nn.Module, __: Any, output: Any) -> None:
            arrivals.append(first_tensor(output))

        if site.side == "input":
            handles.append(site.module.register_forward_pre_hook(before))
        else:
            handles.append(site.module.register_forward_hook(after))

    try:
        for site in found.all_sites():
            watch(site)
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _check(site: Site, activations: list[Tensor]) -> None:
    where = f"{site.name} at {site.path}"
    if len(activations) != 1:
        raise AnatomyError(
            "the site is not reached exactly once in a forward pass", where=where, got=f"{len(activations)} times"
        )
    shape = tuple(activations[0].shape)
    if shape not in ((1, NUM_TOKENS, site.width), (NUM_TOKENS, site.width)):
        raise AnatomyError(
            "the site's activation has another shape than expected",
            where=where,
            got=list(shape),
            expected=[1, NUM_TOKENS, site.width],
        )


def _check_logits(found: Anatomy, head_output: Tensor, logits: Tensor) -> None:
    assert found.logits is not None
    if not torch.equal(found.logit_rule(head_output), logits):
        raise AnatomyError(
            "the model changes its logits after the head in a way that is not known here",
            where=f"logits at {found.logits.path}",
            got=found.logit_rule,
            expected="logit_rule(head output) equal to the model's logits",
            fix="losses from the head's output would be wrong; please report this architecture",
        )
