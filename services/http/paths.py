"""Where a connection leads."""

from __future__ import annotations

from starlette.types import Scope


def routed(scope: Scope) -> str:
    """The path that the router goes by: without the prefix under which the application is mounted (`root_path`).

    By ASGI the path begins with the prefix. Some servers leave it out; to the router such a path is whole.
    """
    path: str = scope["path"]
    rest = path.removeprefix(scope.get("root_path", ""))
    return rest if rest[:1] in {"", "/"} else path
