"""Points of a sweep over inference-time steering, in groups that one attachment serves.

Points that differ in strengths or in residual scales alone share a batch, each with rows of its own; points that differ
in more (fraction, scale, layers, ...) are attached one group after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from steerline.config.layer_selection import StrengthSchedule
from steerline.config.residual_scale import ResidualScaleSpec
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.steering.attach import Attachment
from steerline.steering.layers import select_layers
from steerline.steering.residual_scale import betas_of

# Placebos that draw by the row that a token is in: another batch would be another draw.
_DRAWN = ("random_keys", "matched_noise")
_PLAIN = SteeringSpec()

When = Literal["off", "on", "as_trained"]


def acting(steering: SteeringSpec, when: When) -> SteeringSpec:
    """What of a steering acts while evaluating: never the terms of the training loss, the rest as `when` says."""
    boost, scale = steering.boost, steering.residual_scale
    if boost is not None:
        acts = boost.strength != 0 and _acts(boost, when)
        boost = boost.model_copy(update={"active_in": "both", "schedule": StrengthSchedule()}) if acts else None
    if scale is not None:
        acts = scale.strength != 0 and _acts(scale, when)
        scale = scale.model_copy(update={"active_in": "both"}) if acts else None
    return SteeringSpec(boost=boost, residual_scale=scale)


def _acts(part: BoostSpec | ResidualScaleSpec, when: When) -> bool:
    return when == "on" or (when == "as_trained" and part.active_in != "train")


@dataclass(frozen=True)
class Group:
    """Points that one attachment serves.

    Args:
        steering: what is attached; its strengths and betas are replaced by the points' own.
        numbers: number of each point.
        points: the points, in the same order.
    """

    steering: SteeringSpec
    numbers: tuple[int, ...]
    points: tuple[SteeringSpec, ...]

    @property
    def by_place(self) -> bool:
        """Whether what happens to a token depends on its place in the batch, so that a point needs its own batches."""
        return self.steering.boost is not None and self.steering.boost.control in _DRAWN

    def first_layer(self, num_layers: int) -> int:
        """The first layer that something acts in; 0 where nothing does."""
        parts = (self.steering.boost, self.steering.residual_scale)
        return min((select_layers(part.layers, num_layers)[0] for part in parts if part is not None), default=0)

    @contextmanager
    def rows(self, attachment: Attachment, chosen: slice, num_rows: int, num_layers: int) -> Iterator[None]:
        """While inside, the chosen points have `num_rows` rows of the batch each, one point after the other."""
        points = self.points[chosen]
        boost = scale = None
        if self.steering.boost is not None:
            boost = _for_rows([0.0 if point.boost is None else point.boost.strength for point in points], num_rows)
        shared = self.steering.residual_scale
        if shared is None:
            with attachment.row_strengths(boost):
                yield
            return
        parts = [shared if point.residual_scale is None else point.residual_scale for point in points]
        betas = torch.stack([betas_of(part, len(select_layers(shared.layers, num_layers))) for part in parts])
        scale = _for_rows(
            [0.0 if point.residual_scale is None else point.residual_scale.strength for point in points], num_rows
        )
        with attachment.row_strengths(boost, scale), attachment.row_betas(betas.repeat_interleave(num_rows, dim=0)):
            yield


def _for_rows(strengths: Sequence[float], num_rows: int) -> Tensor:
    return torch.tensor(strengths, dtype=torch.float64).repeat_interleave(num_rows)


def grouped(points: Sequence[SteeringSpec]) -> list[Group]:
    """Points, as `acting` leaves them, in groups; the plain model's rows ride in the first one that takes them."""
    members: dict[SteeringSpec, list[int]] = {}
    for number, point in enumerate(points):
        members.setdefault(_shared(point), []).append(number)
    hosts = [key for key in members if key != _PLAIN and not (key.boost is not None and key.boost.control in _DRAWN)]
    if hosts and _PLAIN in members:
        members[hosts[0]] += members.pop(_PLAIN)
    return [Group(key, tuple(numbers), tuple(points[number] for number in numbers)) for key, numbers in members.items()]


def _shared(point: SteeringSpec) -> SteeringSpec:
    """What a point has in common with those of its group."""
    boost, scale = point.boost, point.residual_scale
    return SteeringSpec(
        boost=None if boost is None else boost.model_copy(update={"strength": 1.0}),
        residual_scale=None
        if scale is None
        else scale.model_copy(update={"strength": 1.0, "betas": 1.0, "ffn_betas": None}),
    )
