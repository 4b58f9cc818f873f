"""The figures of a run whose objective has SAFR's terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steerline.analysis.infosteer.history import Metrics
from steerline.analysis.safr.portrait import Portrait, portrait_figures, portray
from steerline.analysis.safr.summary import MEASURES
from steerline.analysis.safr.term_figure import PANELS, term_figure
from steerline.config.steering import SteeringSpec
from steerline.data.batch import Batch
from steerline.models.anatomy import anatomy
from steerline.steering.layers import select_layers
from steerline.tracking.recorder import Recorder

# Deletion runs a model once for each share, score and draw.
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
_DRAWS = 2
_PASSES = 3 + len(_SHARES) * (2 + _DRAWS)
# Floating-point operations for one model: minutes on a CPU.
_BUDGET = {"cpu": 1e13, "cuda": 1e15}


def has_safr(steering: SteeringSpec) -> bool:
    """Whether any of SAFR's parts is in an objective."""
    return any(part is not None for part in (steering.importance, steering.interaction, steering.vmask))


def draw_safr(
    recorder: Recorder,
    steering: SteeringSpec,
    name: str,
    history: Metrics,
    models: Mapping[str, Callable[[], PreTrainedModel]],
    tokenizer: PreTrainedTokenizerBase,
    batches: Sequence[Batch],
    *,
    sites: Mapping[str, str] | None = None,
    seed: int = 0,
) -> None:
    """Record loss terms, neuron allocation, interaction map, importance and deletion curves under `figures/safr/`, and
    the measures as `safr_measures.json`. Without SAFR in the objective nothing is done.

    Args:
        recorder: of the run.
        steering: the objective's mechanisms.
        name: the run's.
        history: its metrics.
        models: label -> how to load it, such as the untrained and the trained model; one is in memory at a time.
        tokenizer: shared by the models.
        batches: held-out rows, of which large models read the first few; without any, only the loss terms are drawn.
        sites: sites named by hand, as in `ModelSpec.sites`.
        seed: of random deletion.

    Raises:
        EvaluationError, AnatomyError: a model cannot be read.
    """
    if not has_safr(steering):
        return
    if any(panel in history for panel, *_ in PANELS):
        recorder.figure(term_figure({name: history}), "figures/safr/terms.png")
    if not batches:
        return
    portraits = {label: _portrait(load(), steering, batches, sites=sites, seed=seed) for label, load in models.items()}
    for figure_name, figure in portrait_figures(portraits, tokenizer).items():
        recorder.figure(figure, f"figures/safr/{figure_name}.png")
    recorder.json({label: _measures(portrait) for label, portrait in portraits.items()}, "safr_measures.json")


def _portrait(
    model: PreTrainedModel,
    steering: SteeringSpec,
    batches: Sequence[Batch],
    *,
    sites: Mapping[str, str] | None,
    seed: int,
) -> Portrait:
    found = anatomy(model, sites)
    center = steering.importance is not None and steering.importance.center
    layers = None if steering.interaction is None else select_layers(steering.interaction.layers, found.num_layers)
    read = affordable(batches, model)
    return portray(model, read, layers=layers, center=center, shares=_SHARES, draws=_DRAWS, seed=seed, sites=found)


def affordable(batches: Sequence[Batch], model: PreTrainedModel) -> Sequence[Batch]:
    """The first batches, at least one, that a model of this size and device reads in a few minutes.

    A pass takes about 2 operations for each parameter and token.
    """
    weights = sum(parameter.numel() for parameter in model.parameters())
    budget = _BUDGET["cpu" if model.device.type == "cpu" else "cuda"] / (2 * _PASSES * weights)
    totals = list(accumulate(batch.input_ids.numel() for batch in batches))
    return batches[: max(1, sum(total <= budget for total in totals))]


def _measures(portrait: Portrait) -> dict[str, object]:
    """Means with 95 % bootstrap intervals over sequences; null where a measure is not defined."""
    found: dict[str, object] = {"importance_from": portrait.summary.importance_from}
    for measure in MEASURES:
        interval = portrait.summary.interval(measure)
        found[measure] = None if interval is None else asdict(interval)
    if portrait.curves is not None:
        found["accuracy"] = float(portrait.curves.intact.mean())
        for score in ("importance", "interaction"):
            found[f"deletion_by_{score}"] = portrait.curves.drop_beyond_random(score)
    return found
