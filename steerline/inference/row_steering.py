"""Steering of one batch whose rows differ in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache

import torch
from torch import Tensor, nn

from steerline.config.layer_selection import StrengthSchedule
from steerline.config.steering import SteeringSpec
from steerline.errors import SteeringError, SteerlineError
from steerline.models.anatomy import Anatomy
from steerline.steering.attach import Attachment, attach

RowStrengths = list[tuple[Attachment, Tensor | None, Tensor | None]]
"""An attachment, and for each token [N] the strengths of its boost and of its residual scales."""


class RowSteering:
    """Attachments for the rows of a batch, which come and go with them.

    Rows that differ in strengths alone share an attachment. Where rows differ in more, each kind has an attachment of
    its own, in which the other rows have strength 0 and keep their bits. A request's mechanisms act, whatever their
    `active_in` and schedules say of training; terms of the training loss do nothing.

    Args:
        model: the model.
        anatomy: its sites.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy) -> None:
        self._model = model
        self._anatomy = anatomy
        self._attached: dict[SteeringSpec, Attachment] = {}

    def check(self, spec: SteeringSpec) -> None:
        """Whether a spec, as `acting_part` leaves it, can act.

        Raises:
            SteeringError: it cannot act on this model.
        """
        kind = _without_strengths(spec)
        if kind not in self._attached:
            attach(self._model, kind, anatomy=self._anatomy).detach()

    def hold(self, specs: Collection[SteeringSpec]) -> None:
        """Attaches what these specs need and is not there yet, and takes out what none of them needs."""
        kinds = dict.fromkeys(_without_strengths(spec) for spec in specs)
        kinds.pop(SteeringSpec(), None)
        for kind in [kind for kind in self._attached if kind not in kinds]:
            self._attached.pop(kind).detach()
        for kind in kinds:
            if kind not in self._attached:
                self._attached[kind] = attach(self._model, kind, anatomy=self._anatomy)

    def strengths(self, specs: Sequence[SteeringSpec], lengths: Sequence[int]) -> RowStrengths:
        """How strongly each kind acts on the tokens of a pass: so many in a row of each spec."""
        counts = torch.tensor(lengths)
        found: RowStrengths = []
        for kind, attachment in self._attached.items():
            rows = [spec if _without_strengths(spec) == kind else SteeringSpec() for spec in specs]
            both = (_boosts(kind, rows), _scales(kind, rows))
            boost, scale = (None if one is None else one.repeat_interleave(counts) for one in both)
            found.append((attachment, boost, scale))
        return found


@contextmanager
def acting(strengths: RowStrengths) -> Iterator[None]:
    """Around a forward pass over [N, 1] tokens that `RowSteering.strengths` was asked about."""
    with ExitStack() as stack:
        for attachment, boost, scale in strengths:
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


def said(error: SteerlineError) -> str:
    """An error as one sentence, for whoever asked."""
    what = error.what if error.got is None else f"{error.what}: {error.got}"
    return what if error.fix is None else f"{what} ({error.fix})"


@lru_cache(maxsize=1024)
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
