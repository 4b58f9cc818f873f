"""Points of a sweep over inference-time steering, in groups that one attachment serves.

Points that differ in strength alone share a batch, each with rows of its own; points that differ in more (fraction,
scale, layers, ...) are attached one group after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from steerline.config.layer_selection import StrengthSchedule
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.steering.attach import Attachment
from steerline.steering.layers import select_layers

# Placebos that draw by the row that a token is in: another batch would be another draw.
_DRAWN = ("random_keys", "matched_noise")


def acting(steering: SteeringSpec, when: Literal["off", "on", "as_trained"]) -> SteeringSpec:
    """What of a steering acts while evaluating: terms of the training loss never do, the boost as `when` says."""
    boost = steering.boost
    if boost is None or when == "off" or boost.strength == 0 or (when == "as_trained" and boost.active_in == "train"):
        return SteeringSpec()
    return SteeringSpec(boost=boost.model_copy(update={"active_in": "both", "schedule": StrengthSchedule()}))


@dataclass(frozen=True)
class Group:
    """Points that one attachment serves.

    Args:
        steering: what is attached; its strengths are replaced by the points' own.
        points: number of each point, in the order of `strengths`.
        strengths: of the boost, one for each point.
    """

    steering: SteeringSpec
    points: tuple[int, ...]
    strengths: tuple[float, ...]

    @property
    def by_place(self) -> bool:
        """Whether what happens to a token depends on its place in the batch, so that a point needs its own batches."""
        return self.steering.boost is not None and self.steering.boost.control in _DRAWN

    def first_layer(self, num_layers: int) -> int:
        """The first layer that something acts in; 0 where nothing does."""
        boost = self.steering.boost
        return 0 if boost is None else select_layers(boost.layers, num_layers)[0]

    @contextmanager
    def rows(self, attachment: Attachment, chosen: slice, num_rows: int) -> Iterator[None]:
        """While inside, the chosen points have `num_rows` rows of the batch each, one point after the other."""
        if self.steering.boost is None:
            yield
            return
        strengths = torch.tensor(self.strengths[chosen], dtype=torch.float64).repeat_interleave(num_rows)
        with attachment.row_strengths(strengths):
            yield


def grouped(points: Sequence[SteeringSpec]) -> list[Group]:
    """Points, as `acting` leaves them, in groups; the plain model's rows ride in the first group."""
    members: dict[SteeringSpec, list[int]] = {}
    for number, point in enumerate(points):
        members.setdefault(_without_strength(point), []).append(number)
    plain = members.pop(SteeringSpec(), [])
    host = next((key for key in members if key.boost is not None and key.boost.control not in _DRAWN), None)
    if plain and host is not None:
        members[host] = [*plain, *members[host]]
    elif plain:
        members = {SteeringSpec(): plain, **members}
    return [
        Group(key, tuple(numbers), tuple(_strength(points[number].boost) for number in numbers))
        for key, numbers in members.items()
    ]


def _without_strength(point: SteeringSpec) -> SteeringSpec:
    if point.boost is None:
        return SteeringSpec()
    return SteeringSpec(boost=point.boost.model_copy(update={"strength": 1.0}))


def _strength(boost: BoostSpec | None) -> float:
    return 0.0 if boost is None else boost.strength
