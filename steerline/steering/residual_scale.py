"""InfoRidge's residual scaling (B.2): `z_l = z_{l-1} + beta_l * block_l(z_{l-1})`.

The scaled activation is written `whole + (beta - 1) * change`, with `change` the part that beta multiplies: what a
block adds to its input, or the whole output of an attention or FFN branch. So beta = 1 is the plain model, and near it
nothing is lost to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.hooks import RemovableHandle

from steerline.config.residual_scale import ResidualScaleSpec
from steerline.errors import SteeringError
from steerline.models.anatomy import Anatomy, first_tensor, replace_first
from steerline.models.branches import residual_branches
from steerline.steering.boost import Conditions
from steerline.steering.layers import select_layers


class ResidualScale:
    """The hooks that scale what blocks, or their attention and FFN, add to the residual stream.

    Args:
        model: the model.
        anatomy: its sites.
        spec: which betas, in which layers.
        now: the conditions of a forward pass that starts now.

    Raises:
        SteeringError: a layer does not exist, or there are not as many betas as layers.
        AnatomyError: `split`, and it is not known where the family's attention and FFN join the residual stream.
    """

    def __init__(
        self, model: nn.Module, anatomy: Anatomy, spec: ResidualScaleSpec, now: Callable[[], Conditions]
    ) -> None:
        self.spec = spec
        self.layers = select_layers(spec.layers, anatomy.num_layers)
        self._now = now
        self._betas = betas_of(spec, len(self.layers))
        self._last_forward = now()
        self._recomputed: dict[tuple[int, int], Conditions] = {}
        self._handles: list[RemovableHandle] = []
        if spec.split:
            branches = residual_branches(model, anatomy)
            for place, layer in enumerate(self.layers):
                for part, branch in enumerate((branches[layer].attention, branches[layer].ffn)):
                    self._hook(branch, partial(self._at_branch, (part, place)))
        else:
            blocks = {site.layer: site.module for site in anatomy.block_out}
            for place, layer in enumerate(self.layers):
                self._hook(blocks[layer], partial(self._at_block, (0, place)))

    @property
    def shape(self) -> tuple[int, int]:
        """(P, N): 1 part of a block, or 2 (attention, FFN) where they are apart; selected layers."""
        return self._betas.shape[0], self._betas.shape[1]

    def detach(self) -> None:
        """Removes the hooks; once detached, calling it again does nothing."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _hook(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        eager: Callable[..., Any] = torch.compiler.disable(hook)  # type: ignore[no-untyped-call]
        self._handles.append(module.register_forward_hook(eager, with_kwargs=True))

    def _at_block(
        self, site: tuple[int, int], _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        conditions = self._conditions(site)
        betas = self._acting(site, conditions)
        if betas is None:
            return None
        after = first_tensor(output)
        before: Tensor = args[0] if args else kwargs["hidden_states"]
        return replace_first(output, self._scaled(site, after, after - before, betas, conditions))

    def _at_branch(
        self, site: tuple[int, int], _module: nn.Module, _args: tuple[Any, ...], _kwargs: dict[str, Any], output: Any
    ) -> Any:
        conditions = self._conditions(site)
        betas = self._acting(site, conditions)
        if betas is None:
            return None
        branch = first_tensor(output)
        return replace_first(output, self._scaled(site, branch, branch, betas, conditions))

    def _conditions(self, site: tuple[int, int]) -> Conditions:
        """Those of the forward pass that is going on; of the last one where checkpointing computes it again."""
        if torch._C._current_graph_task_id() != -1:
            self._recomputed[site] = self._last_forward
            return self._last_forward
        self._last_forward = self._now()
        self._recomputed.pop(site, None)
        return self._last_forward

    def _acting(self, site: tuple[int, int], conditions: Conditions) -> Tensor | None:
        """The betas at a site: one for all rows [1], or one for each row of the batch [B]; none where all are 1."""
        part, place = site
        rows, strengths = conditions.row_betas, conditions.row_scale_strengths
        betas = self._betas[None, part, place] if rows is None else rows[:, part, place]
        if strengths is None:
            acts = rows is not None or self.spec.active_in in {"both", conditions.phase}
            strengths = torch.tensor([self.spec.strength if acts else 0.0], dtype=torch.float64)
        if not bool((strengths == 1).all()):
            betas = 1 + strengths.to(betas.device) * (betas - 1)
        return betas if betas.requires_grad or bool((betas != 1).any()) else None

    def _scaled(
        self, site: tuple[int, int], whole: Tensor, change: Tensor, betas: Tensor, conditions: Conditions
    ) -> Tensor:
        num_rows, count = whole.shape[:-1].numel() if whole.ndim == 2 else whole.shape[0], betas.numel()
        if num_rows % count or (whole.ndim > 2 and count not in (1, num_rows)):
            raise SteeringError(
                "the residual scales do not fit the batch that went through the model",
                got=f"{count} rows of scales, an activation of shape {list(whole.shape)}",
                expected="one scale for each row of the batch",
            )
        # OPT flattens its tokens before the FFN: a row of the batch is then several rows of this activation.
        betas = betas.repeat_interleave(num_rows // count) if count > 1 else betas
        # float32 beside half precision, so that a beta near 1 is not rounded to it.
        kind = torch.promote_types(whole.dtype, torch.float32)
        betas = betas.to(whole.device, kind).view(-1, *[1] * (whole.ndim - 1))

        def check() -> None:
            again = self._recomputed.pop(site, conditions)
            if not again.edits_like(conditions):
                raise SteeringError(
                    "activation checkpointing computed scaled blocks again under other conditions than the first time",
                    where=f"layer {self.layers[site[1]]}",
                    got="a forward pass with another phase, other betas or row strengths came before the backward pass",
                    fix="run the backward pass before the next forward pass",
                )

        scaled: Tensor = _Scaled.apply(whole, change, betas, check)  # type: ignore[no-untyped-call]
        return scaled


class _Scaled(torch.autograd.Function):
    """`whole + (beta - 1) * change`; rows whose beta is 1 keep their bits, and have the gradient of every other row."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, change: Tensor, betas: Tensor, check: Callable[[], None]) -> Tensor:
        ctx.save_for_backward(change, betas)
        ctx.check = check
        return torch.where(betas == 1, whole, (whole + (betas - 1) * change).to(whole.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        change, betas = ctx.saved_tensors
        ctx.check()
        for_change, for_betas = None, None
        if ctx.needs_input_grad[1]:
            for_change = ((betas - 1) * grad).to(grad.dtype)
        if ctx.needs_input_grad[2]:
            for_betas = (grad.to(betas.dtype) * change).sum_to_size(betas.shape)
        return grad, for_change, for_betas, None


def checked_row_betas(betas: Tensor, shape: tuple[int, int]) -> Tensor:
    """Betas for each row of a batch as [B, P, N], with their graph; [B, N] is allowed where P is 1.

    Raises:
        SteeringError: another shape, no row, or a beta that is negative or not finite.
    """
    parts, layers = shape
    wide = betas[:, None] if betas.ndim == 2 and parts == 1 else betas
    fits = wide.ndim == 3 and wide.shape[1:] == (parts, layers) and len(wide) > 0
    if not fits or not bool((wide.detach().isfinite() & (wide.detach() >= 0)).all()):
        raise SteeringError(
            "bad betas",
            got=f"shape {list(betas.shape)}" if not fits else "a beta below 0, or not finite",
            expected=f"[B, {layers}]" + ("" if parts == 1 else f" for attention and for FFN: [B, {parts}, {layers}]"),
        )
    return wide


def betas_of(spec: ResidualScaleSpec, num_layers: int) -> Tensor:
    """The spec's betas [P, N], float64: 1 part, or attention and FFN apart; N layers.

    Raises:
        SteeringError: there are not as many betas as layers.
    """
    parts = [spec.betas]
    if spec.split:
        parts.append(spec.betas if spec.ffn_betas is None else spec.ffn_betas)
    rows = []
    for betas in parts:
        listed = betas if isinstance(betas, tuple) else (betas,) * num_layers
        if len(listed) != num_layers:
            raise SteeringError(
                "there are not as many residual scales as layers",
                where="residual_scale.betas",
                got=f"{len(listed)} betas, {num_layers} layers",
                expected="one number, or one for each layer",
            )
        rows.append(listed)
    return torch.tensor(rows, dtype=torch.float64)
