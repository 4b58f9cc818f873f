"""What is looked at before residual scales are fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from steerline.config.data import DatasetSpec
from steerline.config.residual_fit import ResidualFitSpec
from steerline.orchestration.preflight import checks_model
from steerline.orchestration.preflight.core import Check, Finding, ModelScene, failure, warning
from steerline.orchestration.preflight.frozen_model import FROZEN_MODEL_CHECKS


@dataclass(frozen=True)
class ResidualFitScene(ModelScene):
    """What the checks of a residual-scale job look at."""

    spec: ResidualFitSpec

    def datasets(self) -> Iterator[tuple[str, DatasetSpec]]:
        """Those that scales are fitted to, and those that they are judged by."""
        for index, split in enumerate(self.spec.splits):
            yield from ((f"splits.{index}.train.{n}", dataset) for n, dataset in enumerate(split.train))
            yield from ((f"splits.{index}.heldout.{n}", dataset) for n, dataset in enumerate(split.heldout))


def layers(scene: ResidualFitScene) -> Iterator[Finding]:
    """Layers that the model does not have."""
    depth = scene.model.num_layers
    beyond = [layer for layer in scene.spec.fit.layers if isinstance(layer, int) and layer >= (depth or layer + 1)]
    if beyond:
        yield failure(
            f"the model has {depth} layers",
            path="fit.layers",
            got=f"layers {beyond}",
            expected=f"0 to {(depth or 0) - 1}",
        )


def leakage(scene: ResidualFitScene) -> Iterator[Finding]:
    """Held-out rows that scales are fitted to."""
    fitted = [dataset.source for split in scene.spec.splits for dataset in split.train]
    for index, split in enumerate(scene.spec.splits):
        for number, dataset in enumerate(split.heldout):
            if dataset.source in fitted:
                yield warning(
                    "scales are judged by rows of a source that they are fitted to",
                    path=f"splits.{index}.heldout.{number}.source",
                    got="the same source as one of `train`",
                    fix="use another split, file or seed",
                )


def length(scene: ResidualFitScene) -> Iterator[Finding]:
    """Sequences longer than the model's."""
    yield from checks_model.too_long(scene, scene.spec.max_length_tokens, "max_length_tokens")


RESIDUAL_FIT_CHECKS: tuple[Check, ...] = (
    Check("steering", layers, "job"),
    Check("leakage", leakage, "job"),
    Check("length", length, "job"),
    *FROZEN_MODEL_CHECKS,
)
