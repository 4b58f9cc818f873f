"""How a trained model is judged."""

from __future__ import annotations

import re
from typing import Literal, get_args

from pydantic import Field, model_validator

from steerline.config.base import Spec, misfit
from steerline.config.data import DatasetSpec

Group = Literal["id", "ood"]
# MLflow takes no other characters in a metric's name, and the tracking writes `_` for them.
_REPLACED = re.compile(r"[^\w\-. :/]")


class TaskEvaluation(Spec):
    """One task's items and how an answer is read."""

    name: str
    """Name in tables and metrics."""
    dataset: DatasetSpec
    """The items. Limit and seed fix which ones, so that two runs can be paired."""
    method: Literal["likelihood", "generate", "classify"] = "likelihood"
    """Multiple choice by answer likelihood, greedy generation and answer extraction, or a classifier's largest
    logit."""
    normalise: Literal["none", "tokens", "bytes"] = "none"
    """Divide an option's log-likelihood by its length in tokens or bytes."""
    max_new_tokens: int = Field(default=32, ge=1)
    """Longest generation."""
    group: Group = "id"
    """In-distribution (its train split was trained on) or out-of-distribution."""


class EvaluationSpec(Spec):
    """The tasks that follow training."""

    tasks: tuple[TaskEvaluation, ...] = ()
    """Tasks to run."""
    steering: Literal["off", "on", "as_trained"] = "as_trained"
    """Whether the boost and the residual scales act while evaluating: never, always, or as their `active_in` says."""
    batch_tokens: int = Field(default=4096, ge=128)
    """Tokens per forward pass, padding included."""
    num_bootstrap: int = Field(default=2000, ge=100)
    """Bootstrap resamples behind each interval."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of the intervals."""
    include_base: bool = False
    """Evaluate the untrained model on the same items too."""

    @model_validator(mode="after")
    def _names_are_distinct(self) -> EvaluationSpec:
        names = [task.name for task in self.tasks]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise misfit(
                    f"two tasks are called `{name}`, so one would overwrite the other's results",
                    f"tasks.{index}.name",
                    fix="give each task a name of its own",
                )
            if metric_name(name) in get_args(Group):
                raise misfit(
                    f"a task may not be called `{name}`: that is a group of tasks, and `eval/{name}/accuracy` its mean",
                    f"tasks.{index}.name",
                    fix="give the task another name",
                )
            same = next((other for other in names[:index] if metric_name(other) == metric_name(name)), None)
            if same is not None:
                raise misfit(
                    f"the tasks `{same}` and `{name}` have the same metrics, `eval/{metric_name(name)}/...`",
                    f"tasks.{index}.name",
                    expected="names that differ in more than characters that MLflow does not take",
                    fix="give each task a name of its own",
                )
        return self


def metric_name(task: str) -> str:
    """A task's name as its metrics have it."""
    return _REPLACED.sub("_", task)
