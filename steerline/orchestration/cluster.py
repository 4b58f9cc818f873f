"""Ray's job server, with errors that say what to do."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

import ray.exceptions
import requests
from ray.job_submission import JobDetails, JobSubmissionClient

from steerline.errors import SubmitError
from steerline.orchestration.ledger import State
from steerline.orchestration.target import Target

_CONNECT_TIMEOUT_S = 5.0
# They tell of each upload and each closed connection.
for _talkative in ("dashboard.modules.job.sdk", "dashboard.modules.dashboard_sdk", "_private.runtime_env.packaging"):
    logging.getLogger(f"ray.{_talkative}").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Job:
    """What Ray says about a job."""

    submission_id: str
    state: State
    exit_code: int | None
    """What the driver returned; the `ray` command itself only tells 0 from 1."""
    message: str | None
    entrypoint: str
    metadata: Mapping[str, str]


class Cluster:
    """A connection to a cluster's job server.

    Raises:
        SubmitError: nobody answers there, or the token is missing or wrong.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        _probe(target.address)
        with self._explained(), _address_in_environment(target.address):
            self._client = JobSubmissionClient(target.address, headers=target.headers)

    def submit(
        self, entrypoint: str, *, submission_id: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]
    ) -> None:
        """Hand a job over.

        Raises:
            SubmitError: the cluster refused it.
        """
        with self._explained():
            self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=submission_id,
                runtime_env=dict(runtime_env),
                metadata=dict(metadata),
            )

    def jobs(self) -> dict[str, Job]:
        """Every submitted job that the cluster remembers, by submission id."""
        with self._explained():
            details = self._client.list_jobs()
        # Drivers that were started without the job server have no submission id.
        return {detail.submission_id: _job(detail) for detail in details if detail.submission_id}

    def job(self, submission_id: str) -> Job | None:
        """One job; none when the cluster has never heard of it."""
        return self.jobs().get(submission_id)

    def stop(self, submission_id: str) -> bool:
        """Ask a job to end; its driver gets SIGTERM. False when it had ended already."""
        with self._explained():
            return bool(self._client.stop_job(submission_id))

    def logs(self, submission_id: str) -> str:
        """The driver's output up to now."""
        with self._explained():
            return str(self._client.get_job_logs(submission_id))

    def tail(self, submission_id: str) -> Iterator[str]:
        """The driver's output in pieces as it is written, until the job ends."""
        with self._explained(), asyncio.Runner() as runner:
            pieces: AsyncIterator[str] = self._client.tail_job_logs(submission_id)
            while (piece := runner.run(_next(pieces))) is not None:
                yield piece

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ray.exceptions.AuthenticationError as error:
            self._fail(
                "the cluster refused the token",
                error,
                "export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE holding the cluster's token",
            )
        except (ConnectionError, requests.exceptions.RequestException) as error:
            self._fail("the cluster stopped answering", error, "steerline status")
        except (RuntimeError, ValueError) as error:
            self._fail("the cluster could not carry out the request", error, None)

    def _fail(self, what: str, error: Exception, fix: str | None) -> NoReturn:
        raise SubmitError(what, where=self.target.address, got=str(error).strip(), fix=fix) from error


def answers(address: str) -> bool:
    """Whether something listens at this HTTP address."""
    try:
        _probe(address)
    except SubmitError:
        return False
    return True


def _probe(address: str) -> None:
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        # Ray's own client waits without limit.
        socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise SubmitError(
            "no cluster answers at this address",
            where=address,
            got=str(error),
            fix="`steerline up` starts a local one; `steerline doctor` looks at what is there",
        ) from error


async def _next(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)


@contextmanager
def _address_in_environment(address: str) -> Iterator[None]:
    """Ray lets these variables overrule the address that its client is given."""
    variable = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(variable)
    os.environ[variable] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def _job(details: JobDetails) -> Job:
    return Job(
        submission_id=str(details.submission_id),
        state=State(details.status.value),
        exit_code=details.driver_exit_code,
        message=details.message,
        entrypoint=details.entrypoint,
        metadata=details.metadata or {},
    )
