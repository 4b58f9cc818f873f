"""The main job: fine-tune a language model, or train a classifier."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from steerline.config.base import NOT_IDENTITY, Spec
from steerline.config.classification import classes_of, misfit_of
from steerline.config.cluster import ClusterSpec
from steerline.config.data import DataSpec
from steerline.config.evaluation import EvaluationSpec
from steerline.config.model import ModelSpec
from steerline.config.tracking import TrackingSpec
from steerline.config.training import ObjectiveSpec, TrainingSpec, ZeroSpec


class FinetuneSpec(Spec):
    """A fine-tuning job, whole."""

    kind: Literal["finetune"] = "finetune"
    """Kind of job."""
    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$", json_schema_extra=NOT_IDENTITY)
    """Readable part of the run's name."""
    seed: int = Field(default=0, ge=0)
    """Seed of weights that start random, dropout, the order of samples and the placebos."""
    model: ModelSpec
    """The model."""
    data: DataSpec
    """What it learns from."""
    objective: ObjectiveSpec = ObjectiveSpec()
    """What it minimises."""
    training: TrainingSpec
    """The optimisation."""
    zero: ZeroSpec = ZeroSpec()
    """Partitioning over workers."""
    evaluation: EvaluationSpec = Field(default=EvaluationSpec(), json_schema_extra=NOT_IDENTITY)
    """How the result is judged."""
    tracking: TrackingSpec = Field(default=TrackingSpec(), json_schema_extra=NOT_IDENTITY)
    """Where it is recorded."""
    cluster: ClusterSpec = Field(default=ClusterSpec(), json_schema_extra=NOT_IDENTITY)
    """Where it runs."""

    @model_validator(mode="after")
    def _parts_fit_the_objective(self) -> FinetuneSpec:
        found = misfit_of(self)
        if found is not None:
            raise found
        return self

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes that the model tells apart; none where it predicts next tokens."""
        return classes_of(self)
