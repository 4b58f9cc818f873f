"""SAFR's loss terms over training."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from steerline.analysis.infosteer.history import Metrics
from steerline.analysis.infosteer.loss_figure import Panel, loss_figure

PANELS: tuple[Panel, ...] = (
    ("train/loss_ce", "Training cross-entropy", "nats per target"),
    ("train/importance", "Importance term, before its strength", "mean over tokens"),
    ("train/interaction", "Interaction term, before its strength", "mean over tokens"),
    ("train/vmask_entropy", "Gate's entropy term", "nats per token"),
    ("train/vmask_mean", "Mean gate", "share of tokens kept"),
    ("heldout/loss_ce", "Held-out cross-entropy", "nats per target"),
    ("heldout/importance", "Held-out importance term", "mean over tokens"),
    ("heldout/interaction", "Held-out interaction term", "mean over tokens"),
)


def term_figure(runs: Mapping[str, Metrics], *, heading: str = "Loss terms over training") -> Figure:
    """A panel for each of SAFR's terms that some run has, every run in it.

    Raises:
        EvaluationError: no run has any of the terms.
    """
    return loss_figure(runs, heading=heading, panels=PANELS)
