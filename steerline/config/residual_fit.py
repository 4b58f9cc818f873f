"""The job that fits residual scales to a frozen model: which layers generalise, by InfoRidge's probe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from steerline.config.base import NOT_IDENTITY, Spec, misfit
from steerline.config.cluster import ClusterSpec
from steerline.config.data import ClassificationFormat, DatasetSpec
from steerline.config.layer_selection import Layers
from steerline.config.model import ModelSpec
from steerline.config.tracking import TrackingSpec


class FitSplit(Spec):
    """One distribution: the rows that scales are fitted to, and those that they are judged by."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]{0,31}$")
    """Name in tables and metrics, e.g. `id` or `ood`."""
    train: tuple[DatasetSpec, ...] = Field(min_length=1)
    """Rows to fit to."""
    heldout: tuple[DatasetSpec, ...] = Field(min_length=1)
    """Rows that every fit, on whichever split, is judged by; never fitted to."""


class FitSpec(Spec):
    """The optimisation of the scales. Every split and every seed is fitted at once, as rows of one batch."""

    seeds: tuple[int, ...] = Field(default=(0, 1, 2, 3, 4), min_length=1)
    """One fit for each, on each split: it decides which rows come in which step."""
    split: bool = False
    """Fit attention and FFN apart."""
    layers: Layers = "all"
    """Layers whose scales are fitted; the others stay 1."""
    num_steps: int = Field(default=100, ge=1)
    """Optimiser steps."""
    rows_per_step: int = Field(default=16, ge=1)
    """Rows of each fit in each step."""
    learning_rate: float = Field(default=0.02, gt=0)
    """Of Adam, on the scales themselves or on what softplus makes them of."""
    positivity: Literal["clamp", "softplus"] = "clamp"
    """How scales stay at 0 or above: cut off after each step, or made by softplus from numbers that start where it is
    1."""
    batch_tokens: int = Field(default=4096, ge=64, json_schema_extra=NOT_IDENTITY)
    """Tokens per pass, padding included, in fitting and in judging."""

    @field_validator("seeds")
    @classmethod
    def _seeds_are_distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise misfit("a seed is named twice", expected="each seed once")
        return seeds


class ResidualFitSpec(Spec):
    """A residual-scale fit, whole: a frozen model, splits, and scales fitted to each of them."""

    kind: Literal["residual_scale"]
    """Kind of job."""
    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$", json_schema_extra=NOT_IDENTITY)
    """Readable part of the run's name."""
    model: ModelSpec
    """The model; its weights stay as they are."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the weights in memory; scales, losses and statistics are float32 or better."""
    splits: tuple[FitSplit, ...] = Field(min_length=1)
    """The distributions. With two, the last is compared with the first (`id`, `ood`)."""
    max_length_tokens: int = Field(default=256, ge=2)
    """Longest sequence."""
    overlong: Literal["error", "truncate", "drop"] = "error"
    """What to do with a longer row."""
    single_token: bool = False
    """Refuse rows whose answer is more than one token, as the paper's task asks."""
    fit: FitSpec = FitSpec()
    """The optimisation."""
    num_bootstrap: int = Field(default=2000, ge=100, json_schema_extra=NOT_IDENTITY)
    """Resamples behind each interval."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1, json_schema_extra=NOT_IDENTITY)
    """Confidence of the intervals."""
    tracking: TrackingSpec = Field(default=TrackingSpec(), json_schema_extra=NOT_IDENTITY)
    """Where it is recorded."""
    cluster: ClusterSpec = Field(default=ClusterSpec(), json_schema_extra=NOT_IDENTITY)
    """Where it runs. One process fits everything."""

    @model_validator(mode="after")
    def _parts_fit(self) -> ResidualFitSpec:
        names = [split.name for split in self.splits]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise misfit(f"two splits are called `{name}`", f"splits.{index}.name", expected="each name once")
            for part in ("train", "heldout"):
                for number, dataset in enumerate(getattr(self.splits[index], part)):
                    if isinstance(dataset.format, ClassificationFormat):
                        raise misfit(
                            "scales are fitted by the next-token loss, and these rows have a class",
                            f"splits.{index}.{part}.{number}.format.kind",
                            expected="rows with an answer: task, prompt_answer, chat or text",
                        )
        if self.cluster.num_workers != 1:
            raise misfit(
                "all fits share one batch of one process",
                "cluster.num_workers",
                expected="1",
                fix="give the one worker more CPUs with `cluster.cpus_per_worker`, or a GPU with `cluster.use_gpu`",
            )
        if self.model.lora is not None:
            raise misfit("the model is frozen, so it takes no adapters", "model.lora", fix="leave `model.lora` out")
        return self
