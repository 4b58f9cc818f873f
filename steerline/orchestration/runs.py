"""Looking after submitted jobs by the name of their run: where they stand, their output, stopping, waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from steerline.errors import SubmitError
from steerline.home import home
from steerline.orchestration.cluster import Cluster, Job, answers
from steerline.orchestration.ledger import Attempt, Ledger, State
from steerline.orchestration.target import locate
from steerline.tracking.runs import close_unstarted

STOPPED_EXIT_CODE = 130
_POLL_S = 0.5
# A hand-over takes seconds; one that is older was cut off between the ledger and the cluster.
_HAND_OVER_LIMIT = timedelta(minutes=10)


def overview(ledger: Ledger | None = None, address: str | None = None) -> list[Attempt]:
    """Every attempt in the ledger, oldest first, then the cluster's other jobs, each with where it stands now.

    Args:
        ledger: none takes this machine's.
        address: the cluster whose other jobs are shown; none takes the environment's, then the running local stack.
    """
    ledger = Ledger() if ledger is None else ledger
    known = refresh(ledger, ledger.attempts())
    ids = {attempt.submission_id for attempt in known}
    return [*known, *(attempt for attempt in _jobs_of(address) if attempt.submission_id not in ids)]


def find(ledger: Ledger, reference: str) -> Attempt:
    """The attempt that a person means, as last seen: the ledger's, else one of the cluster's other jobs.

    Args:
        ledger: looked at first.
        reference: a run name, its unique beginning (the latest attempt is meant), or a submission id.

    Raises:
        SubmitError: nothing, or more than one run, fits.
    """
    attempt = ledger.find(reference)
    if attempt is None:
        attempt = next((job for job in _jobs_of(None) if reference in (job.submission_id, job.run_name)), None)
    if attempt is None:
        raise SubmitError(
            "no run fits this name",
            where=str(ledger.file),
            got=reference,
            expected="a run name, its unique beginning, or a submission id",
            fix="`steerline status` lists the runs",
        )
    return attempt


def status(reference: str, *, ledger: Ledger | None = None) -> Attempt:
    """The latest attempt of a run, with what its cluster says about it now.

    Raises:
        SubmitError: no run fits the name.
    """
    ledger = Ledger() if ledger is None else ledger
    return refresh(ledger, [find(ledger, reference)])[0]


def stop(reference: str, *, ledger: Ledger | None = None, wait_s: float = 120.0) -> Attempt:
    """Stop a run: its driver gets SIGTERM, saves a checkpoint and ends.

    Returns:
        the attempt after it ended.

    Raises:
        SubmitError: it is not going, or did not end in time.
    """
    ledger = Ledger() if ledger is None else ledger
    attempt = status(reference, ledger=ledger)
    if attempt.state.ended or attempt.state is State.UNKNOWN:
        raise SubmitError("the run is not going", got=f"{attempt.submission_id}: {attempt.state.label}")
    Cluster(locate(attempt.address)).stop(attempt.submission_id)
    return wait(attempt.submission_id, ledger=ledger, timeout_s=wait_s)


def logs(reference: str, *, follow: bool = False, ledger: Ledger | None = None) -> Iterator[str]:
    """The driver's output in pieces; after `steerline down` from the copy that it kept.

    Args:
        reference: run name, unique beginning of one, or submission id.
        follow: go on until the job ends.
        ledger: none takes this machine's.

    Raises:
        SubmitError: the cluster is gone, and its logs with it.
    """
    attempt = find(Ledger() if ledger is None else ledger, reference)
    if answers(attempt.address):
        cluster = Cluster(locate(attempt.address))
        if cluster.job(attempt.submission_id) is not None:
            yield from cluster.tail(attempt.submission_id) if follow else [cluster.logs(attempt.submission_id)]
            return
    kept = home() / "logs" / "jobs" / f"{attempt.submission_id}.log"
    if not kept.is_file():
        raise SubmitError(
            "the cluster is gone, and the driver's log with it",
            where=attempt.address,
            got=attempt.submission_id,
            fix="metrics and artefacts are in MLflow",
        )
    yield kept.read_text(errors="replace")


def wait(reference: str, *, ledger: Ledger | None = None, timeout_s: float | None = None) -> Attempt:
    """Wait until an attempt has ended, or its cluster is gone.

    Raises:
        SubmitError: the time is up.
    """
    ledger = Ledger() if ledger is None else ledger
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        attempt = status(reference, ledger=ledger)
        if attempt.state.ended or attempt.state is State.UNKNOWN:
            return attempt
        if deadline is not None and time.monotonic() > deadline:
            raise SubmitError(f"the run did not end within {timeout_s:.0f} s", got=attempt.submission_id)
        time.sleep(_POLL_S)


def exit_code(attempt: Attempt) -> int:
    """What a command that waited for this attempt returns: the driver's own code where there is one."""
    if attempt.state is State.SUCCEEDED:
        return 0
    if attempt.state is State.STOPPED:
        return STOPPED_EXIT_CODE
    return attempt.exit_code or SubmitError.exit_code


def refresh(ledger: Ledger, attempts: Sequence[Attempt]) -> list[Attempt]:
    """Attempts with where they stand now; each cluster is asked once about all of its unfinished ones."""
    addresses = {attempt.address for attempt in attempts if not attempt.state.ended}
    jobs = {address: Cluster(locate(address)).jobs() if answers(address) else None for address in addresses}
    return [
        attempt if attempt.state.ended else _reconciled(ledger, attempt, jobs[attempt.address]) for attempt in attempts
    ]


def _reconciled(ledger: Ledger, attempt: Attempt, jobs: Mapping[str, Job] | None) -> Attempt:
    if jobs is None:
        # Not written down: the cluster may answer again.
        return replace(attempt, state=State.UNKNOWN)
    job = jobs.get(attempt.submission_id)
    if job is not None:
        state, code, message = job.state, job.exit_code, job.message
    elif attempt.state is State.SUBMITTING and _age(attempt) < _HAND_OVER_LIMIT:
        return attempt  # another process is handing it over right now
    else:
        state, code, message = State.LOST, None, "the cluster does not know it: its head was restarted"
    if (state, code) != (attempt.state, attempt.exit_code):
        ledger.update(attempt.submission_id, state, exit_code=code, message=message)
    ended = replace(attempt, state=state, exit_code=code, message=message)
    if state.ended and attempt.tracking_uri:
        _close_unstarted(ended)
    return ended


def _close_unstarted(attempt: Attempt) -> None:
    """A job may end before its run begins: no room, no environment, stopped while it waited, nothing left to do."""
    status = {State.STOPPED: "KILLED", State.SUCCEEDED: "FINISHED"}.get(attempt.state, "FAILED")
    if attempt.state is State.SUCCEEDED:
        reason = "its job found nothing left to do"
    else:
        reason = f"{attempt.state.label} before it started: {attempt.message or 'Ray gives no reason'}"
    close_unstarted(attempt.tracking_uri, attempt.run_name, attempt.submission_id, status=status, reason=reason)


def _age(attempt: Attempt) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(attempt.submitted_at)


def _jobs_of(address: str | None) -> list[Attempt]:
    """The jobs of a cluster as attempts; none where nobody named one, and none answers."""
    try:
        target = locate(address)
    except SubmitError:
        if address is not None:
            raise
        return []
    if address is None and not answers(target.address):
        return []
    return [_foreign(job, target.address) for job in Cluster(target).jobs().values()]


def _foreign(job: Job, address: str) -> Attempt:
    """A job that another ledger, or the plain `ray job submit`, started."""
    number = job.metadata.get("attempt", "")
    return Attempt(
        submission_id=job.submission_id,
        run_name=job.metadata.get("run_name", job.submission_id),
        attempt=int(number) if number.isdigit() else 1,
        kind=job.metadata.get("kind", ""),
        root=Path(),
        config=job.entrypoint,
        overrides=(),
        storage_path="",
        address=address,
        state=job.state,
        exit_code=job.exit_code,
        message=job.message,
    )
