"""Fitting residual scales to a frozen model: every split and seed at once, each as rows of one batch.

Legend: F fits (splits x seeds), P parts of a block (1, or attention and FFN), N layers. Adam works number by number and
each fit's loss is its own mean, so a fit among others is the fit alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from steerline.config.residual_fit import FitSpec
from steerline.config.residual_scale import ResidualScaleSpec
from steerline.config.steering import SteeringSpec
from steerline.data.batch import Row, collate
from steerline.data.sampler import GlobalSampler
from steerline.errors import NonFiniteLossError
from steerline.models.anatomy import Anatomy
from steerline.steering.attach import Attachment, attach
from steerline.steering.layers import select_layers
from steerline.training.causal_lm import CausalLMLoss

# softplus(x) = 1.
_ONE = math.log(math.e - 1)


@dataclass(frozen=True)
class Fitted:
    """What a fit found.

    Args:
        betas: [F, P, N], float64, on the CPU.
        losses: [steps, F], each fit's mean loss per target token at each step, in nats.
    """

    betas: Tensor
    losses: Tensor


class ScaledModel:
    """A frozen model whose rows carry residual scales of their own.

    Args:
        model: any causal language model; its weights take no gradient any more, and it is in eval mode.
        sites: its sites.
        spec: which layers, and whether attention and FFN are apart.
        pad_id: the token that fills rows.

    Use it as a context manager, or call `close`.

    Raises:
        SteeringError, AnatomyError, ModelError: the layers do not exist, or the model is no language model.
    """

    def __init__(self, model: PreTrainedModel, sites: Anatomy, spec: FitSpec, pad_id: int) -> None:
        model.requires_grad_(False).eval()
        self.shape = (2 if spec.split else 1, len(select_layers(spec.layers, sites.num_layers)))
        self.device = next(model.parameters()).device
        self._pad_id = pad_id
        scale = ResidualScaleSpec(split=spec.split, layers=spec.layers)
        self._attachment: Attachment = attach(model, SteeringSpec(residual_scale=scale), anatomy=sites)
        self._head = CausalLMLoss(model, sites)

    def __enter__(self) -> ScaledModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Takes the hooks off the model."""
        self._head.detach()
        self._attachment.detach()

    def logits(self, rows: Sequence[Row], betas: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """One pass over `rows`.

        Args:
            rows: B rows.
            betas: [B, P, N]; none is the plain model.

        Returns:
            Logits [M, V] at the M target positions, their targets [M], and the row [M] of each.
        """
        batch = collate(rows, self._pad_id, 1).to(self.device)
        with self._with(betas):
            logits, targets = self._head.target_logits(batch)
        return logits, targets, batch.target_mask.nonzero()[:, 0]

    @contextmanager
    def _with(self, betas: Tensor | None) -> Iterator[None]:
        if betas is None:
            yield
            return
        with self._attachment.row_betas(betas):
            yield


def fit_scales(
    scaled: ScaledModel,
    train: Sequence[Sequence[Row]],
    spec: FitSpec,
    *,
    on_step: Callable[[int, Tensor], None] = lambda _step, _losses: None,
) -> Fitted:
    """Fit scales that start at 1 by Adam on the next-token loss of each split, for every seed.

    Args:
        scaled: the frozen model.
        train: rows of each split. Fit f is split f // S with seed f % S of the spec's S seeds.
        spec: steps, rows, learning rate, positivity.
        on_step: told each step's losses [F].

    Raises:
        NonFiniteLossError: a loss is not finite.
    """
    samplers = [GlobalSampler(len(rows), spec.rows_per_step, seed) for rows in train for seed in spec.seeds]
    sources = [rows for rows in train for _ in spec.seeds]
    start = 1.0 if spec.positivity == "clamp" else _ONE
    raw = torch.full((len(samplers), *scaled.shape), start, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=spec.learning_rate)
    history = []
    for step in range(spec.num_steps):
        rows = [
            source[index] for source, sampler in zip(sources, samplers, strict=True) for index in sampler.step(step)
        ]
        optimizer.zero_grad()
        losses = _backward(scaled, rows, raw, spec)
        if not bool(losses.isfinite().all()):
            raise NonFiniteLossError(
                "the loss of a fit is not finite",
                where=f"step {step}, fit {int((~losses.isfinite()).nonzero()[0])}",
                got=losses.tolist(),
                fix="lower `fit.learning_rate`",
            )
        optimizer.step()
        if spec.positivity == "clamp":
            with torch.no_grad():
                raw.clamp_(min=0)
        history.append(losses)
        on_step(step, losses)
    return Fitted(_betas(raw, spec).detach(), torch.stack(history))


def passes(rows: Sequence[Row], batch_tokens: int) -> Iterator[slice]:
    """Slices of `rows` that go through the model together, at most `batch_tokens` with padding."""
    start, widest = 0, 0
    for index, row in enumerate(rows):
        width = max(widest, sum(len(example) for example in row))
        if index > start and width * (index + 1 - start) > batch_tokens:
            yield slice(start, index)
            start, width = index, sum(len(example) for example in row)
        widest = width
    yield slice(start, len(rows))


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(logits)[target] of M tokens [M], in nats, in float32 or the logits' wider type."""
    return functional.cross_entropy(
        logits.to(torch.promote_types(logits.dtype, torch.float32)), targets, reduction="none"
    )


def _betas(raw: Tensor, spec: FitSpec) -> Tensor:
    return raw if spec.positivity == "clamp" else functional.softplus(raw)


def _backward(scaled: ScaledModel, rows: Sequence[Row], raw: Tensor, spec: FitSpec) -> Tensor:
    """Gradients of the sum of all fits' losses into `raw`; returns the losses [F]."""
    owner = torch.arange(len(raw)).repeat_interleave(spec.rows_per_step)
    per_row = torch.tensor([sum(example.num_targets for example in row) for row in rows], dtype=torch.float64)
    counts = torch.zeros(len(raw), dtype=torch.float64).index_add_(0, owner, per_row)
    losses = torch.zeros(len(raw), dtype=torch.float64)
    for part in passes(rows, spec.batch_tokens):
        logits, targets, row = scaled.logits(rows[part], _betas(raw, spec)[owner[part]])
        each = token_losses(logits, targets)
        fits = owner[part][row.cpu()]
        weighted = each / counts[fits].to(each)
        torch.autograd.backward(weighted.sum())
        losses.index_add_(0, fits, weighted.detach().cpu().double())
    return losses
