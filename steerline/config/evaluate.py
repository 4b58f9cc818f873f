"""The job that judges one model under one steering, or under many strengths of it at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from steerline.config.base import NOT_IDENTITY, Spec, misfit
from steerline.config.cluster import ClusterSpec
from steerline.config.data import ClassificationFormat
from steerline.config.evaluation import EvaluationSpec
from steerline.config.model import ModelSpec
from steerline.config.steering import SteeringSpec
from steerline.config.tracking import TrackingSpec

Strength = Annotated[float, Field(ge=0)]


class EvaluateSpec(Spec):
    """An evaluation job, whole. The unsteered model is always judged beside, on the same items."""

    kind: Literal["evaluate"] = "evaluate"
    """Kind of job."""
    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$", json_schema_extra=NOT_IDENTITY)
    """Readable part of the run's name."""
    seed: int = Field(default=0, ge=0)
    """Seed of the placebos' draws."""
    model: ModelSpec
    """The model; its weights stay as they are."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the weights in memory. Logits and statistics are float32 or better."""
    steering: SteeringSpec = SteeringSpec()
    """What acts in its forward passes; nothing evaluates the plain model alone."""
    strengths: tuple[Strength, ...] = ()
    """Judge at each of these strengths in place of the steering's own, all in the same batches."""
    evaluation: EvaluationSpec
    """The tasks, and whether a mechanism acts that is written for training alone."""
    max_length_tokens: int | None = Field(default=None, ge=2)
    """Texts to classify are cut to this length; none cuts nothing."""
    tracking: TrackingSpec = Field(default=TrackingSpec(), json_schema_extra=NOT_IDENTITY)
    """Where it is recorded."""
    cluster: ClusterSpec = Field(default=ClusterSpec(), json_schema_extra=NOT_IDENTITY)
    """Where it runs. One process evaluates everything."""

    @field_validator("strengths")
    @classmethod
    def _strengths_are_distinct(cls, strengths: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(strengths)) != len(strengths):
            raise misfit("a strength is named twice", expected="each strength once")
        return strengths

    @model_validator(mode="after")
    def _parts_fit(self) -> EvaluateSpec:
        if not self.evaluation.tasks:
            raise misfit("there is nothing to evaluate", "evaluation.tasks", fix="list at least one task")
        if self.cluster.num_workers != 1:
            raise misfit(
                "all strengths share the batches of one process",
                "cluster.num_workers",
                expected="1",
                fix="give the one worker more CPUs with `cluster.cpus_per_worker`, or a GPU with `cluster.use_gpu`",
            )
        if self.model.lora is not None:
            raise misfit("nothing is trained, so there are no adapters", "model.lora", fix="leave `model.lora` out")
        if self.evaluation.include_base:
            raise misfit(
                "the unsteered model is always judged beside",
                "evaluation.include_base",
                fix="leave `evaluation.include_base` out",
            )
        self._check_steering()
        self._check_classes()
        return self

    def _check_steering(self) -> None:
        boost, scale, when = self.steering.boost, self.steering.residual_scale, self.evaluation.steering
        if self.steering.vmask is not None:
            raise misfit(
                "a gate is trained, and judged by the job that trains it", "steering.vmask", fix="leave `vmask` out"
            )
        for name, part in (("boost", boost), ("residual_scale", scale)):
            if part is not None and (when == "off" or (when == "as_trained" and part.active_in == "train")):
                raise misfit(
                    f"the {name} would not act: it is switched off, or acts in training alone",
                    "evaluation.steering",
                    f"steering.{name}.active_in",
                    fix="set `evaluation.steering: on`",
                )
        if self.strengths and (boost is None) == (scale is None):
            raise misfit(
                "strengths are those of one mechanism, and the steering has " + ("none" if boost is None else "two"),
                "strengths",
                expected="either `steering.boost` or `steering.residual_scale`",
            )
        if scale is not None and any(strength > 1 for strength in self.strengths):
            raise misfit("a strength of residual scales is at most 1", "strengths", expected="0 to 1")

    def _check_classes(self) -> None:
        named = {
            task.dataset.format.classes
            for task in self.evaluation.tasks
            if isinstance(task.dataset.format, ClassificationFormat)
        }
        methods = {task.method == "classify" for task in self.evaluation.tasks}
        if len(named) > 1 or len(methods) > 1:
            raise misfit(
                "a model tells one set of classes apart, or predicts tokens",
                "evaluation.tasks",
                expected="the same classes in every task, or `classify` in none",
            )

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes that the model tells apart; none where it predicts next tokens."""
        task = self.evaluation.tasks[0]
        if task.method == "classify" and isinstance(task.dataset.format, ClassificationFormat):
            return task.dataset.format.classes
        return None

    @property
    def points(self) -> dict[str, SteeringSpec]:
        """What is judged beside the plain model, by label: the steering, or each strength of it."""
        if not self.strengths:
            return {} if self.steering == SteeringSpec() else {"steered": self.steering}
        return {f"strength {strength:g}": self._at(strength) for strength in self.strengths}

    def _at(self, strength: float) -> SteeringSpec:
        name = "boost" if self.steering.boost is not None else "residual_scale"
        part: Spec = getattr(self.steering, name)
        return self.steering.model_copy(update={name: part.model_copy(update={"strength": strength})})
