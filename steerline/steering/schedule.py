"""How a strength moves over training."""

from __future__ import annotations

from steerline.config.layer_selection import StrengthSchedule


def schedule_factor(schedule: StrengthSchedule, step: int) -> float:
    """What the strength is multiplied by at optimiser step `step` (counted from 0).

    Rises linearly from 0 at step 0 to 1 at step `warmup_steps`, then stays, or falls linearly to 0 over `decay_steps`.
    """
    if step < schedule.warmup_steps:
        return step / schedule.warmup_steps
    if schedule.decay_steps is None:
        return 1.0
    return max(0.0, 1.0 - (step - schedule.warmup_steps) / schedule.decay_steps)
