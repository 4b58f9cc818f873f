"""Which cluster a command speaks to, and what a client of it needs in its environment."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from steerline.errors import SubmitError
from steerline.orchestration import auth, stack

# Ray's own order: the first wins, and both win over `--address`.
_ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


@dataclass(frozen=True)
class Target:
    """A Ray cluster's job server."""

    address: str
    """HTTP address."""
    environment: Mapping[str, str] = field(repr=False)
    """The caller's environment, completed by the local stack's where that is the cluster."""

    @property
    def is_local(self) -> bool:
        """Whether the cluster is on this machine, so that both see the same files."""
        host = urlsplit(self.address).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that carry the token."""
        return auth.headers(self.environment)

    @property
    def client_variables(self) -> dict[str, str]:
        """What `ray job submit --address ...` needs set, without secrets."""
        variables = {
            name: self.environment[name]
            for name in (auth.MODE_VARIABLE, auth.TOKEN_PATH_VARIABLE)
            if name in self.environment
        }
        overruling = next((os.environ[name] for name in _ADDRESS_VARIABLES if os.environ.get(name)), self.address)
        return variables if overruling == self.address else {**variables, _ADDRESS_VARIABLES[0]: self.address}


def locate(address: str | None = None) -> Target:
    """The cluster that a command means.

    Args:
        address: what the user typed; else `RAY_API_SERVER_ADDRESS`, `RAY_ADDRESS` and the running local stack are
            looked at, in this order.

    Raises:
        SubmitError: there is none, or it is not an HTTP address.
    """
    local = stack.running()
    given = address or next((os.environ[name] for name in _ADDRESS_VARIABLES if os.environ.get(name)), None)
    if given is None:
        if local is None:
            raise SubmitError(
                "no cluster to speak to",
                expected="--address, RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or a local stack",
                fix="`steerline up` starts a local one",
            )
        given = local.address
    given = given.rstrip("/")
    if not _is_http(given):
        raise SubmitError(
            "a job server has an HTTP address",
            got=given,
            expected="http://HOST:PORT, usually port 8265 of the Ray head",
            fix="pass it as --address, or export RAY_API_SERVER_ADDRESS",
        )
    if local is not None and given == local.address:
        return Target(given, {**os.environ, **local.environment()})
    return Target(given, dict(os.environ))


def _is_http(address: str) -> bool:
    """Whether it names a host, and a port that there can be or none."""
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port, or the brackets of an IPv6 address
        return False
