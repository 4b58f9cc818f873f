"""Every error a user can meet. Each says what went wrong, where, what was found, what was expected and how to fix it.

The class decides the process's exit code, and `page` names its page under `docs/errors/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class SteerlineError(Exception):
    """Base of all errors that are a user's to mend.

    Args:
        what: one sentence without a trailing full stop.
        where: the file and line, the dotted config path, the site or the step.
        got: what was found.
        expected: what is allowed.
        fix: the next thing to type or change.
    """

    exit_code = 1
    page = ""

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        got: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.got = got
        self.expected = expected
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        see = f"docs/errors/{self.page}.md" if self.page else None
        return "\n".join([self.what, *self._parts(see)])

    def _parts(self, see: str | None) -> list[str]:
        named = {"where": self.where, "got": self.got, "expected": self.expected, "fix": self.fix, "see": see}
        return [f"  {name + ':':<10}{value}" for name, value in named.items() if value is not None]

    def __reduce__(self) -> tuple[object, ...]:
        # Ray carries exceptions between processes; the default would lose the keyword arguments.
        return (_rebuild, (type(self), self.what, self.__dict__))


def _rebuild(cls: type[SteerlineError], what: str, state: dict[str, object]) -> SteerlineError:
    error = cls.__new__(cls)
    Exception.__init__(error, what)
    error.__dict__.update(state)
    return error


@dataclass(frozen=True)
class Problem:
    """One thing to mend, of several that are reported together."""

    what: str
    """One sentence without a trailing full stop."""
    path: str | None = None
    """Dotted config path, e.g. `training.num_steps`."""
    where: str | None = None
    """`file.yaml:LINE:COLUMN`, or the `--set` that caused it."""
    got: str | None = None
    """What was found."""
    expected: str | None = None
    """What is allowed."""
    fix: str | None = None
    """The next thing to type or change."""
    see: str | None = None
    """Page that says more, e.g. `docs/errors/preflight.md#batch`."""

    def __str__(self) -> str:
        place = "  ".join(part for part in (self.where, self.path) if part)
        lines = [f"{place}: {self.what}" if place else self.what]
        for name in ("got", "expected", "fix", "see"):
            value = getattr(self, name)
            if value is not None:
                lines.append(f"  {name + ':':<10}{value}")
        return "\n".join(lines)


class ProblemsError(SteerlineError):
    """Several problems, all at once.

    Args:
        what: one sentence without a trailing full stop.
        problems: the problems, in the order in which they are shown.
        where, got, expected, fix: as for `SteerlineError`.
    """

    def __init__(
        self,
        what: str,
        *,
        problems: Sequence[Problem] = (),
        where: str | None = None,
        got: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(what, where=where, got=got, expected=expected, fix=fix)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        # A problem that names its own place on the page makes the page's name superfluous.
        pointed = any(problem.see for problem in self.problems)
        rest = self._parts(None if pointed else f"docs/errors/{self.page}.md")
        shown = [f"\n{problem}" for problem in self.problems]
        return "\n".join([self.what, *shown, *([""] if shown and rest else []), *rest])


class ConfigError(ProblemsError):
    """A config file cannot be read as the job it names. Carries every problem at once in its message."""

    exit_code = 2
    page = "config"


class PreflightError(ProblemsError):
    """The config is well formed, but this machine or cluster cannot run it."""

    exit_code = 3
    page = "preflight"


class DataError(SteerlineError):
    """A data set is missing, empty, of another shape than its format needs, or holds an over-long example."""

    exit_code = 4
    page = "data"


class FetchError(DataError):
    """A packaged resource could not be downloaded, or is not the file that was pinned."""

    page = "fetch"


class ModelError(SteerlineError):
    """A model cannot be loaded, is refused for safety, or could not be exported."""

    exit_code = 5
    page = "model"


class AnatomyError(ModelError):
    """A site (embedding, block, attention, FFN keys, logits) was not found in a model."""

    page = "anatomy"


class SteeringError(SteerlineError):
    """A steering mechanism was given an input or a setting it cannot act on."""

    exit_code = 6
    page = "steering"


class CheckpointError(SteerlineError):
    """No intact checkpoint can be used, or one could not be written."""

    exit_code = 7
    page = "checkpoint"


class NonFiniteLossError(SteerlineError):
    """The loss became NaN or infinite. Training stopped; the last good checkpoint is untouched."""

    exit_code = 8
    page = "nonfinite-loss"


class TrainingError(SteerlineError):
    """Training could not go on for a reason other than the loss."""

    exit_code = 9
    page = "training"


class TrackingError(SteerlineError):
    """The MLflow server refused something for a reason that waiting does not cure."""

    exit_code = 10
    page = "tracking"


class SubmitError(SteerlineError):
    """A job could not be submitted, found, stopped or resumed."""

    exit_code = 11
    page = "submit"


class EvaluationError(SteerlineError):
    """A model cannot be evaluated, or two evaluations cannot be compared."""

    exit_code = 12
    page = "evaluation"


class StackError(SteerlineError):
    """The local Ray head, MLflow server and endpoint could not be started, found or stopped."""

    exit_code = 13
    page = "stack"


class InferenceError(SteerlineError):
    """A model's text was asked for in a way that no backend can answer."""

    exit_code = 14
    page = "inference"


class OverloadedError(SteerlineError):
    """Too much is waiting already; the same request may be sent again later.

    Args:
        what: one sentence without a trailing full stop.
        retry_after_s: seconds after which there should be room.
    """

    exit_code = 15
    page = "overloaded"

    def __init__(self, what: str, *, retry_after_s: float, got: object = None, expected: object = None) -> None:
        super().__init__(
            what, got=got, expected=expected, fix=f"wait {retry_after_s:.1f} s, or ask for fewer things at once"
        )
        self.retry_after_s = retry_after_s


class SimulationError(SteerlineError):
    """A simulation cannot be played as its spec says: unknown names, unfit agents, data that are not plain."""

    exit_code = 16
    page = "simulation"


class SweepError(SteerlineError):
    """A sweep cannot be carried out, or its model cannot be promoted."""

    exit_code = 17
    page = "sweep"


class LeaseError(SimulationError):
    """Another process runs this simulation, or has taken it over."""

    page = "lease"


class StoreAwayError(SimulationError):
    """The server that keeps simulations does not answer now."""

    page = "store"


class CorruptLogError(SimulationError):
    """The history of a simulation was altered, or cannot be rebuilt as it was written."""

    page = "corrupt-log"


class ReplayError(SimulationError):
    """A strict replay met a call that the journal does not hold, or holds with another request."""

    page = "replay"


class AccessError(SteerlineError):
    """API keys could not be made, read or revoked, or what they used not be read."""

    exit_code = 18
    page = "access"
