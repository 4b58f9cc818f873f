"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from contextlib import ExitStack

# Whoever asks for a port listens on it a while later. Until then nobody else may be given it: Ray hands ports up to
# 19999 to its workers, and Linux those from 32768 on to whoever asks for any port, and to connections.
FREE_PORTS = range(20000, 32768)
HOST = "127.0.0.1"


def free_ports(num_ports: int, preferred: Sequence[int] = ()) -> list[int]:
    """Ports nobody listens on, all different, of those that the system and Ray give to nobody.

    Args:
        num_ports: how many.
        preferred: wanted for the first places; a taken one is replaced by a free one.
    """
    with ExitStack() as held:
        # All are held until the last is chosen, so that none is chosen twice.
        return [_hold(held, preferred[i] if i < len(preferred) else None) for i in range(num_ports)]


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with ExitStack() as held:
        return _bind(held, port) is not None


def _hold(held: ExitStack, wanted: int | None) -> int:
    if wanted is not None and (port := _bind(held, wanted)) is not None:
        return port
    while (port := _bind(held, secrets.choice(FREE_PORTS), fresh=True)) is None:
        pass
    return port


def _bind(held: ExitStack, port: int, *, fresh: bool = False) -> int | None:
    server = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    if not fresh:
        # As servers do: a port whose last connections are still closing counts as free.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((HOST, port))
    except OSError:
        return None
    return port
