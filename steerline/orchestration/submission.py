"""Submitting and resuming runs.

A run is a config's identity; an attempt is one submission of it. Ray refuses to use a submission id twice, so the
attempt's number is part of it, and the run goes on from its last checkpoint because its name stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from steerline.config.kinds import JobSpec
from steerline.config.load import Loaded, load
from steerline.config.render import identity_hash, resolved, run_name
from steerline.errors import SubmitError, TrackingError
from steerline.home import storage_folder
from steerline.orchestration.check import check
from steerline.orchestration.cluster import Cluster, Job
from steerline.orchestration.ledger import Attempt, Ledger, State
from steerline.orchestration.package import Package, entrypoint, find_root, inside, job_variables
from steerline.orchestration.runs import refresh
from steerline.orchestration.target import Target, locate
from steerline.tracking.provenance import Provenance, collect, to_metadata
from steerline.tracking.runs import close_unstarted, schedule_run

Check = Callable[[Loaded[JobSpec], Target], Sequence[str]]
"""Raises `PreflightError`, or returns warnings."""


@dataclass(frozen=True)
class Submitted:
    """A job that a cluster has accepted."""

    attempt: Attempt
    command: str
    """The plain `ray job submit` line that would have done the same."""
    warnings: tuple[str, ...]


def submit(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    check: Check = check,
    address: str | None = None,
    force: bool = False,
    ledger: Ledger | None = None,
) -> Submitted:
    """Load a config, check it and hand it to a cluster.

    Args:
        path: the config file, inside the repository that travels with the job.
        overrides: `a.b=c` settings.
        check: judges the config before anything is sent; preflight, unless something else is asked for.
        address: the cluster; none takes the environment's, then the running local stack.
        force: also when an earlier attempt's cluster does not answer, so that it may still be going.
        ledger: where the attempt is written down; none takes this machine's.

    Raises:
        ConfigError, PreflightError: the config cannot be read, or cannot run.
        SubmitError: the run is going already, or the cluster refuses it.
    """
    loaded = load(path, overrides)
    target = locate(address)
    root = find_root(Path.cwd(), loaded.spec.kind)
    for layer in loaded.layers:
        inside(root, layer)
    warnings = tuple(check(loaded, target))
    name = run_name(loaded.spec)
    cluster = Cluster(target)
    ledger = Ledger() if ledger is None else ledger
    earlier = refresh(ledger, ledger.attempts(name))
    number = _next_number(name, earlier, cluster.jobs(), force=force)
    variables = job_variables(target, loaded.spec.tracking.uri)
    attempt = Attempt(
        submission_id=f"{name}-a{number}",
        run_name=name,
        attempt=number,
        kind=loaded.spec.kind,
        root=root,
        config=inside(root, path),
        overrides=tuple(overrides),
        storage_path=_storage(loaded.spec.cluster.storage_path, target),
        address=target.address,
        tracking_uri=_server(variables.get("MLFLOW_TRACKING_URI")),
    )
    seen = collect(root)
    package = _package(attempt, loaded, seen, variables)
    # Written down first: whoever submits the same run at this moment is stopped by the ledger.
    attempt = ledger.add(attempt)
    warnings += _schedule(attempt, loaded, seen)
    attempt = _hand_over(attempt, package, cluster, ledger)
    for lost in (old for old in earlier if old.state is State.UNKNOWN):
        ledger.update(lost.submission_id, State.LOST, message=f"given up when {attempt.submission_id} was submitted")
    return Submitted(attempt, package.plain_command(target), warnings)


def resume(
    reference: str,
    overrides: Sequence[str] = (),
    *,
    check: Check = check,
    address: str | None = None,
    force: bool = False,
    ledger: Ledger | None = None,
) -> Submitted:
    """Submit a run again under its name; it goes on from its last checkpoint.

    Args:
        reference: run name, unique beginning of one, or submission id.
        overrides: further `a.b=c` settings that do not change what the run computes, such as `cluster.num_workers=1`.
        check, address, force, ledger: as for `submit`.

    Raises:
        SubmitError: it is still going, or its config or the overrides now describe another run.
    """
    ledger = Ledger() if ledger is None else ledger
    last = ledger.find(reference)
    if last is None:
        raise SubmitError(
            "no run of this name was submitted from here",
            where=str(ledger.file),
            got=reference,
            fix="submit its config again: `steerline submit FILE` goes on under the same name",
        )
    path = last.root / last.config
    together = (*last.overrides, *overrides)
    name = run_name(load(path, together).spec)
    if name != last.run_name:
        raise SubmitError(
            "the config now describes another run, so there is nothing to go on from",
            where=str(path),
            got=name,
            expected=last.run_name,
            fix="restore the config, or start the new run with `steerline submit`",
        )
    return submit(path, together, check=check, address=address, force=force, ledger=ledger)


def _package(attempt: Attempt, loaded: Loaded[JobSpec], seen: Provenance, variables: Mapping[str, str]) -> Package:
    metadata = {"run_name": attempt.run_name, "kind": attempt.kind, "attempt": str(attempt.attempt)}
    return Package(
        submission_id=attempt.submission_id,
        root=attempt.root,
        arguments=entrypoint(attempt.kind, attempt.config, attempt.overrides),
        variables=variables,
        metadata={**metadata, "config_hash": identity_hash(loaded.spec), **to_metadata(seen)},
    )


def _hand_over(attempt: Attempt, package: Package, cluster: Cluster, ledger: Ledger) -> Attempt:
    try:
        cluster.submit(
            package.entrypoint,
            submission_id=package.submission_id,
            runtime_env=package.runtime_env,
            metadata=package.metadata,
        )
    except SubmitError as error:
        ledger.forget(attempt.submission_id)
        if attempt.tracking_uri:
            reason = f"the cluster refused it: {error}"
            close_unstarted(
                attempt.tracking_uri, attempt.run_name, attempt.submission_id, status="FAILED", reason=reason
            )
        raise
    ledger.update(attempt.submission_id, State.PENDING)
    return replace(attempt, state=State.PENDING)


def _schedule(attempt: Attempt, loaded: Loaded[JobSpec], seen: Provenance) -> tuple[str, ...]:
    """Show the run in MLflow before it starts; a warning where the server does not answer from here."""
    if not attempt.tracking_uri:
        return ()
    try:
        schedule_run(
            loaded.spec.tracking.model_copy(update={"uri": attempt.tracking_uri}),
            run_name=attempt.run_name,
            kind=attempt.kind,
            submission_id=attempt.submission_id,
            config=resolved(loaded.spec),
            config_hash=identity_hash(loaded.spec),
            config_provenance=loaded.provenance,
            provenance=seen,
        )
    except TrackingError as error:
        return (f"MLflow does not show this run before it starts: {error.what} ({error.got})",)
    return ()


def _server(uri: str | None) -> str:
    """The address if it is a server's, which this machine and the job see alike."""
    return uri if uri is not None and uri.startswith(("http://", "https://")) else ""


def _next_number(name: str, earlier: Sequence[Attempt], jobs: Mapping[str, Job], *, force: bool) -> int:
    """The next attempt's number, or an error while one is going, whoever submitted it."""
    going = {job.submission_id for job in jobs.values() if job.metadata.get("run_name") == name and not job.state.ended}
    going |= {old.submission_id for old in earlier if not old.state.ended and old.state is not State.UNKNOWN}
    if going:
        raise SubmitError(
            "this run is going already, and two attempts would write the same checkpoints",
            got=", ".join(sorted(going)),
            fix=f"`steerline logs -f {name}` follows it, `steerline stop {name}` ends it",
        )
    # A cluster on this machine that does not answer is gone; another one may only be out of reach.
    doubtful = [old for old in earlier if old.state is State.UNKNOWN and not Target(old.address, {}).is_local]
    if doubtful and not force:
        raise SubmitError(
            "the cluster of this run's last attempt does not answer, so it may still be going",
            where=doubtful[-1].address,
            got=doubtful[-1].submission_id,
            fix="if you know that it is gone, add --force",
        )
    suffixes = (id_.removeprefix(f"{name}-a") for id_ in jobs if id_.startswith(f"{name}-a"))
    numbers = [*(old.attempt for old in earlier), *(int(suffix) for suffix in suffixes if suffix.isdigit())]
    return max(numbers, default=0) + 1


def _storage(storage_path: str, target: Target) -> str:
    """Where the run's checkpoints are, as this machine sees it; on another cluster only its config knows."""
    return str(storage_folder(storage_path)) if target.is_local else storage_path
