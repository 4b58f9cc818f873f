"""Steering of one batch whose rows differ in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from steerline.config.layer_selection import StrengthSchedule
from steerline.config.steering import SteeringSpec
from steerline.errors import SteeringError
from steerline.models.anatomy import Anatomy
from steerline.steering.attach import Attachment, attach


class RowSteering:
    """Attachments for the rows of a batch, inside a `with` block.

    Rows that differ in strengths alone share an attachment. Where rows differ in more, each kind has an attachment of
    its own, in which the other rows have strength 0 and keep their bits. A request's mechanisms act, whatever their
    `active_in` and schedules say of training; terms of the training loss do nothing.

    Args:
        model: the model.
        anatomy: its sites.
        specs: of the rows, as `acting_part` leaves them; an empty one is the plain model.

    Raises:
        SteeringError: a spec cannot act on this model.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy, specs: Sequence[SteeringSpec]) -> None:
        kinds = dict.fromkeys(_without_strengths(spec) for spec in specs)
        kinds.pop(SteeringSpec(), None)
        self._parts: list[tuple[Attachment, Tensor | None, Tensor | None]] = []
        with ExitStack() as undo:
            for kind in kinds:
                rows = [spec if _without_strengths(spec) == kind else SteeringSpec() for spec in specs]
                attachment = undo.enter_context(attach(model, kind, anatomy=anatomy))
                self._parts.append((attachment, _boosts(kind, rows), _scales(kind, rows)))
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._undo.close()

    @contextmanager
    def forward(self, rows: Tensor) -> Iterator[None]:
        """Around a forward pass whose batch holds these of the rows, by number [B]."""
        with ExitStack() as stack:
            for attachment, boosts, scales in self._parts:
                boost = None if boosts is None else boosts[rows]
                scale = None if scales is None else scales[rows]
                stack.enter_context(attachment.row_strengths(boost, scale))
            yield


def acting_part(spec: SteeringSpec | None) -> SteeringSpec:
    """What of a spec acts while text is written.

    Raises:
        SteeringError: a gate, which is learnt by training and comes with the model.
    """
    if spec is None:
        return SteeringSpec()
    if spec.vmask is not None:
        raise SteeringError(
            "a gate cannot be added to a request",
            where="steering.vmask",
            fix="serve the model that was trained with the gate",
        )
    boost, scale = spec.boost, spec.residual_scale
    return SteeringSpec(
        boost=boost if boost is not None and boost.strength > 0 else None,
        residual_scale=scale if scale is not None and scale.strength > 0 else None,
    )


def _without_strengths(spec: SteeringSpec) -> SteeringSpec:
    boost, scale = spec.boost, spec.residual_scale
    return SteeringSpec(
        boost=boost and boost.model_copy(update={"strength": 1.0, "active_in": "both", "schedule": StrengthSchedule()}),
        residual_scale=scale and scale.model_copy(update={"strength": 1.0, "active_in": "both"}),
    )


def _boosts(kind: SteeringSpec, rows: Sequence[SteeringSpec]) -> Tensor | None:
    strengths = [0.0 if row.boost is None else row.boost.strength for row in rows]
    return None if kind.boost is None else torch.tensor(strengths, dtype=torch.float64)


def _scales(kind: SteeringSpec, rows: Sequence[SteeringSpec]) -> Tensor | None:
    strengths = [0.0 if row.residual_scale is None else row.residual_scale.strength for row in rows]
    return None if kind.residual_scale is None else torch.tensor(strengths, dtype=torch.float64)
