"""Preflight against the cluster that a job is about to be sent to."""

from __future__ import annotations

import httpx

from steerline.config.kinds import JobSpec
from steerline.config.load import Loaded
from steerline.config.render import run_name
from steerline.errors import SubmitError
from steerline.orchestration.package import job_variables
from steerline.orchestration.preflight import ClusterResources, Report, preflight
from steerline.orchestration.target import Target, locate

_TIMEOUT_S = 10.0


def look(loaded: Loaded[JobSpec], target: Target | None) -> Report:
    """Everything that preflight can tell about a config.

    Args:
        loaded: the config.
        target: where it will run; none judges it against this machine alone.

    Raises:
        SubmitError: the cluster does not say what nodes it has.
    """
    if target is None:
        return preflight(loaded.spec, cluster=None, provenance=loaded.provenance)
    variables = job_variables(target, loaded.spec.tracking.uri)
    return preflight(
        loaded.spec,
        cluster=_resources(target),
        elsewhere=not target.is_local,
        provenance=loaded.provenance,
        environment={**target.environment, **variables},
    )


def check(loaded: Loaded[JobSpec], target: Target) -> tuple[str, ...]:
    """Refuse a config that cannot run on this cluster.

    Returns:
        warnings, for people.

    Raises:
        PreflightError: with everything that stands in the way.
    """
    report = look(loaded, target)
    report.raise_for_problems(run_name(loaded.spec))
    return tuple(str(finding.problem) for finding in report.warnings)


def reachable() -> Target | None:
    """The cluster that a submission would go to, if there is one and it answers."""
    try:
        target = locate()
    except SubmitError:
        return None
    try:
        httpx.get(target.address, timeout=_TIMEOUT_S, trust_env=False)
    except httpx.TransportError:
        return None
    return target


def _resources(target: Target) -> ClusterResources:
    try:
        answer = httpx.get(
            f"{target.address}/api/v0/nodes", headers=target.headers, timeout=_TIMEOUT_S, params={"detail": "true"}
        )
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise SubmitError(
            "the cluster does not say what nodes it has",
            where=target.address,
            got=str(error),
            fix="export RAY_AUTH_TOKEN_PATH=FILE holding the cluster's token"
            if isinstance(error, httpx.HTTPStatusError)
            else "`steerline up` starts a local one",
        ) from error
    return ClusterResources.from_ray(answer.json()["data"]["result"]["result"])
