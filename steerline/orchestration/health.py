"""Waiting for servers to answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from steerline.errors import StackError
from steerline.orchestration import processes
from steerline.orchestration.processes import ProcessRecord

_POLL_S = 0.25
_TELL_EVERY_S = 5.0
_DEADLINE_S = 180.0
_REQUEST_TIMEOUT_S = 10.0
_LOG_TAIL_LINES = 15


@dataclass(frozen=True)
class Server:
    """A server process and the request that shows that it is ready."""

    name: str
    url: str
    process: ProcessRecord
    log: Path
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def wait_until_healthy(
    servers: Sequence[Server],
    tell: Callable[[str], None],
    *,
    beside: Sequence[Server] = (),
    deadline_s: float = _DEADLINE_S,
) -> None:
    """Return when every server has answered 200.

    Args:
        servers: whom to ask. One that has answered must not end while another is waited for.
        tell: is called with a line now and then.
        beside: servers that have answered before, which must not end either.
        deadline_s: seconds to wait for all of them together.

    Raises:
        StackError: a server's process ended, or the time is up; carries the end of its log.
    """
    began = time.monotonic()
    told = began
    waiting, together = list(servers), [*servers, *beside]
    with httpx.Client(timeout=_REQUEST_TIMEOUT_S, trust_env=False) as client:
        while True:
            for server in [server for server in waiting if _answers(client, server, together)]:
                waiting.remove(server)
                tell(f"{server.name} is ready after {time.monotonic() - began:.0f} s")
            if not waiting:
                return
            now = time.monotonic()
            _fail_if_hopeless(together, waiting, now - began, deadline_s)
            if now - told >= _TELL_EVERY_S:
                told = now
                names = " and ".join(server.name for server in waiting)
                tell(f"waiting for {names} ({now - began:.0f} s)")
            time.sleep(_POLL_S)


def _answers(client: httpx.Client, server: Server, servers: Sequence[Server]) -> bool:
    try:
        answered = client.get(server.url, headers=server.headers).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
    # Another program may have taken the port since it was chosen. Ray's processes listen for the endpoint.
    port = urlsplit(server.url).port
    return answered and port is not None and processes.listens([one.process for one in servers], port)


def _fail_if_hopeless(servers: Sequence[Server], waiting: Sequence[Server], waited_s: float, deadline_s: float) -> None:
    for server in servers:
        ended = processes.find(server.process) is None
        if not ended and (server not in waiting or waited_s < deadline_s):
            continue
        how = "ended while starting" if ended else f"did not answer within {deadline_s:.0f} s"
        raise StackError(
            f"{server.name} {how}",
            where=str(server.log),
            got="\n" + _tail(server.log),
            expected=f"200 from {server.url}",
            fix="read its log; `steerline doctor` lists what this machine lacks",
        )


def _tail(log: Path) -> str:
    if not log.is_file():
        return "(no output)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])
