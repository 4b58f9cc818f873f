"""What is looked at before a model is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from steerline.config.data import DatasetSpec
from steerline.config.evaluate import EvaluateSpec
from steerline.orchestration.preflight import checks_model
from steerline.orchestration.preflight.core import Check, Finding, ModelScene, failure, warning
from steerline.orchestration.preflight.frozen_model import FROZEN_MODEL_CHECKS


@dataclass(frozen=True)
class EvaluateScene(ModelScene):
    """What the checks of an evaluation job look at."""

    spec: EvaluateSpec

    def datasets(self) -> Iterator[tuple[str, DatasetSpec]]:
        """Those that the model is judged by."""
        tasks = self.spec.evaluation.tasks
        yield from ((f"evaluation.tasks.{index}.dataset", task.dataset) for index, task in enumerate(tasks))


def layers(scene: EvaluateScene) -> Iterator[Finding]:
    """Layers that the model does not have."""
    depth = scene.model.num_layers
    steering = scene.spec.steering
    for name, part in (("boost", steering.boost), ("residual_scale", steering.residual_scale)):
        named = () if part is None or depth is None else part.layers
        beyond = [layer for layer in named if isinstance(layer, int) and layer >= (depth or 0)]
        if beyond:
            yield failure(
                f"the model has {depth} layers",
                path=f"steering.{name}.layers",
                got=f"layers {beyond}",
                expected=f"0 to {(depth or 0) - 1}",
            )


def effect(scene: EvaluateScene) -> Iterator[Finding]:
    """Terms of a training loss, which do nothing here."""
    steering = scene.spec.steering
    terms = (("entropy", steering.entropy), ("importance", steering.importance), ("interaction", steering.interaction))
    for name, part in terms:
        if part is not None:
            yield warning(
                "nothing is trained here, and this acts on the training loss only",
                path=f"steering.{name}",
                fix=f"leave `{name}` out",
            )


def length(scene: EvaluateScene) -> Iterator[Finding]:
    """Texts longer than the model's sequences."""
    if scene.spec.max_length_tokens is not None:
        yield from checks_model.too_long(scene, scene.spec.max_length_tokens, "max_length_tokens")


EVALUATE_CHECKS: tuple[Check, ...] = (
    Check("steering", layers, "job"),
    Check("no-effect", effect, "job"),
    Check("length", length, "job"),
    *FROZEN_MODEL_CHECKS,
)
"""The checks of an evaluation job."""
