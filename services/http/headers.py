"""Headers that tell browsers what these pages and answers may do: nothing but talk to their own origin."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.http.paths import routed

_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DATA = "default-src 'none'; frame-ancestors 'none'"
CONSOLE_PATH = "/console"


class SecurityHeaders:
    """ASGI middleware that adds them to every answer.

    Args:
        app: what it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = _PAGE if routed(scope).startswith(CONSOLE_PATH) else _DATA

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Content-Security-Policy"] = policy
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, headed)
