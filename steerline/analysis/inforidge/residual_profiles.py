"""Residual-scale fits as arrays: profiles over depth with bands over seeds, and accuracy before and after.

Legend: F splits fitted to, S seeds, P parts of a block (1, or attention and FFN), N layers, M items.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steerline.errors import EvaluationError
from steerline.evaluation.statistics import Interval, bootstrap_interval, holm, permutation_p_value, t_interval

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Every fit on the held-out items of one split, beside the plain model on the same items.

    Args:
        split: whose items they are.
        ids: [M], the items.
        correct_before, correct_after: 0 or 1 for each item, [M] and [F, S, M].
        loss_before, loss_after: nats per target token of each item, [M] and [F, S, M].
    """

    split: str
    ids: tuple[str, ...]
    correct_before: Floats
    correct_after: Floats
    loss_before: Floats
    loss_after: Floats


@dataclass(frozen=True)
class ResidualProfiles:
    """What fits on several splits and seeds found.

    Args:
        splits: names of the splits fitted to, F of them.
        seeds: S of them.
        parts: `block`, or `attention` and `ffn`.
        layers: numbers of the layers, N of them.
        betas: [F, S, P, N].
        losses: [F, S, steps], each fit's loss in nats per target token.
        judged: one entry for each split.
    """

    splits: tuple[str, ...]
    seeds: tuple[int, ...]
    parts: tuple[str, ...]
    layers: tuple[int, ...]
    betas: Floats
    losses: Floats
    judged: tuple[Judged, ...]

    def mean(self, split: str) -> Floats:
        """Mean over seeds [P, N]."""
        return np.asarray(self.betas[self.splits.index(split)].mean(0))

    def spread(self, split: str) -> Floats:
        """One standard deviation over seeds [P, N], the paper's band; 0 for one seed."""
        betas = self.betas[self.splits.index(split)]
        return np.asarray(betas.std(0, ddof=1) if len(betas) > 1 else np.zeros(betas.shape[1:]))

    def differences(self, confidence: float = 0.95) -> tuple[tuple[Interval, ...], ...]:
        """The last split's beta minus the first's, paired by seed: P rows of N Student intervals.

        Raises:
            EvaluationError: there are not two splits, or not two seeds.
        """
        if len(self.splits) < 2:
            raise EvaluationError("profiles are compared between two splits", got=", ".join(self.splits))
        change = self.betas[-1] - self.betas[0]
        return tuple(
            tuple(t_interval(change[:, part, layer], confidence=confidence) for layer in range(len(self.layers)))
            for part in range(len(self.parts))
        )

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(_plain(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> ResidualProfiles:
        """Read what `save` wrote."""
        value = json.loads(path.read_text())
        judged = tuple(
            Judged(
                one["split"],
                tuple(one["ids"]),
                *(np.array(one[name]) for name in ("correct_before", "correct_after", "loss_before", "loss_after")),
            )
            for one in value["judged"]
        )
        names = {name: tuple(value[name]) for name in ("splits", "seeds", "parts", "layers")}
        return cls(**names, betas=np.array(value["betas"]), losses=np.array(value["losses"]), judged=judged)


@dataclass(frozen=True)
class Effect:
    """What one split's scales did to one split's held-out items: means over seeds, intervals over items.

    Args:
        fitted_on, judged_on: the splits.
        before, after: accuracy of the plain model and of the scaled one.
        difference: after minus before, on the same items.
        p_value: two-sided, by swapping before and after item by item.
        p_holm: the same, corrected for all effects that are reported together.
        loss_before, loss_after: nats per target token.
    """

    fitted_on: str
    judged_on: str
    before: Interval
    after: Interval
    difference: Interval
    p_value: float
    p_holm: float
    loss_before: float
    loss_after: float


def effects(profiles: ResidualProfiles, *, num_resamples: int = 2000, confidence: float = 0.95) -> tuple[Effect, ...]:
    """Every pair of fitted and judged split. Items are the unit: seeds are averaged first."""
    pairs = [(fit, judged) for judged in profiles.judged for fit in range(len(profiles.splits))]
    after = [judged.correct_after[fit].mean(0) for fit, judged in pairs]
    raw = [permutation_p_value(judged.correct_before, scores) for (_, judged), scores in zip(pairs, after, strict=True)]

    def interval(values: Floats) -> Interval:
        return bootstrap_interval(values, num_resamples=num_resamples, confidence=confidence)

    return tuple(
        Effect(
            profiles.splits[fit],
            judged.split,
            interval(judged.correct_before),
            interval(scores),
            interval(scores - judged.correct_before),
            p_value,
            p_holm,
            float(judged.loss_before.mean()),
            float(judged.loss_after[fit].mean()),
        )
        for (fit, judged), scores, p_value, p_holm in zip(pairs, after, raw, holm(raw), strict=True)
    )


def table(found: Sequence[Effect]) -> str:
    """The effects as a Markdown table."""
    lines = [
        "| fitted on | judged on | accuracy before | after | difference | p (Holm) | loss before | after |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        span = f"{one.difference.mean:+.3f} [{one.difference.low:+.3f}, {one.difference.high:+.3f}]"
        lines.append(
            f"| {one.fitted_on} | {one.judged_on} | {one.before.mean:.3f} | {one.after.mean:.3f} | {span} "
            f"| {one.p_holm:.2g} | {one.loss_before:.3f} | {one.loss_after:.3f} |"
        )
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, ResidualProfiles | Judged):
        return {name: _plain(item) for name, item in vars(value).items()}
    return value
