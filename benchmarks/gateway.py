"""What the gateway costs a request: the endpoint against an empty Serve application of the same shape.

    python -m benchmarks.gateway [--repetitions 5] [--requests 200] [--clients 8]

Both are applications of one Serve: an ingress with FastAPI and a deployment behind it that answers at once, one call of
a handle between them. The empty one passes its body on unread and sends back a constant; the endpoint checks the key,
the limits and the request, asks a stub in its `Models` deployment, and writes OpenAI's answer. Each repetition measures
both in turn, one request after another, then with several clients at once. Annotations are not postponed: FastAPI reads
them in another process, where this file's names are not.
"""

import argparse
import asyncio
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

from benchmarks.results import Report, Row, save
from benchmarks.timing import interleave

GOAL_MS = 5.0
BODY: dict[str, Any] = {
    "model": "stub",
    "messages": [
        {"role": "system", "content": "You are brief. " * 20},
        {"role": "user", "content": "Name a colour of the rainbow. " * 10},
    ],
    "max_tokens": 16,
}
CHATS = "/v1/chat/completions"


@contextmanager
def cluster() -> Iterator[None]:
    """Ray on this machine for this process alone, with a token of its own."""
    with tempfile.TemporaryDirectory(prefix="gateway-") as folder:
        token = Path(folder) / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        os.environ |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "STEERLINE_HOME": folder,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        import ray
        from ray import serve

        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
        try:
            yield
        finally:
            serve.shutdown()
            ray.shutdown()


def empty_application() -> Any:
    """An ingress and a deployment behind it, and nothing in either."""
    from ray import serve

    @serve.deployment(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=1000)
    class Behind:
        async def generate(self, _body: bytes) -> bytes:
            return b'{"choices": []}'

        async def stream(self, _body: bytes) -> AsyncGenerator[bytes, None]:
            yield b'data: {"choices": []}\n\n'

    app = FastAPI()

    @serve.deployment(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=1000)
    @serve.ingress(app)
    class Front:
        def __init__(self, behind: Any) -> None:
            self._behind, self._streaming = behind, behind.options(stream=True)

        @app.post(CHATS)
        async def chat(self, request: Request) -> Response:
            body = await request.body()
            if b'"stream"' in body:
                return StreamingResponse(self._streaming.stream.remote(body), media_type="text/event-stream")
            return Response(await self._behind.generate.remote(body), media_type="application/json")

    return Front.bind(Behind.bind())


def deploy() -> tuple[str, dict[str, str]]:
    """Both applications on one port; its address, and the headers of a call."""
    from ray import serve

    from services.deployments import build
    from steerline.config.serving import ServingSpec
    from steerline.orchestration.ports import free_ports
    from steerline.serving.keys import SCOPES, KeyBook

    spec = ServingSpec.model_validate(
        {
            "models": {"stub": {"kind": "noisy"}},
            "limits": {"requests_per_minute": 10_000_000},
            "tracking": None,
            "console": False,
        }
    )
    key, _ = KeyBook(Path(os.environ["STEERLINE_HOME"]) / "keys.json").create("benchmark", SCOPES)
    (port,) = free_ports(1)
    serve.start(
        http_options={"host": "127.0.0.1", "port": port},
        proxy_location="HeadOnly",
        logging_config={"enable_access_log": False},
    )
    serve.run(empty_application(), name="empty", route_prefix="/empty")
    serve.run(build(spec), name="endpoint", route_prefix="/")
    return f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}


async def latencies(
    url: str, headers: dict[str, str], body: dict[str, Any], requests: int, clients: int
) -> list[float]:
    """Milliseconds until each request has its whole answer, of so many clients at once, each on a connection of its
    own."""

    async def ask(client: httpx.AsyncClient, count: int) -> list[float]:
        found = []
        for _ in range(count):
            began = time.perf_counter()
            response = await client.post(url, json=body)
            found.append((time.perf_counter() - began) * 1000)
            assert response.status_code == httpx.codes.OK, response.text
        return found

    async def one_client() -> list[float]:
        async with httpx.AsyncClient(headers=headers, timeout=60) as client:
            await ask(client, 3)
            return await ask(client, requests // clients)

    return [one for found in await asyncio.gather(*(one_client() for _ in range(clients))) for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    args = parser.parse_args()
    kinds = {
        "one after another": (BODY, 1),
        f"{args.clients} clients at once": (BODY, args.clients),
        "streamed": ({**BODY, "stream": True}, 1),
    }
    with cluster():
        url, headers = deploy()
        contestants = {}
        for kind, (body, clients) in kinds.items():
            for name, path in (("empty", f"/empty{CHATS}"), ("endpoint", CHATS)):
                measure = partial(latencies, url + path, headers, body, args.requests, clients)
                contestants[f"{kind}/{name}"] = partial(_median, measure)
        for contestant in contestants.values():
            contestant()
        samples = interleave(contestants, repetitions=args.repetitions)
    rows = [_row(kind, samples[f"{kind}/empty"], samples[f"{kind}/endpoint"]) for kind in kinds]
    for row in rows:
        print(f"{row.what}: {row.measured}")
    command = f"python -m benchmarks.gateway --repetitions {args.repetitions} --requests {args.requests}"
    notes = ["The clients run on the same cores as Serve."]
    save(Report("gateway", "What the gateway costs a request", command, rows, notes))


def _median(measure: Any) -> float:
    return statistics.median(asyncio.run(measure()))


def _row(kind: str, empty: list[float], endpoint: list[float]) -> Row:
    over = [mine - bare for mine, bare in zip(endpoint, empty, strict=True)]
    middle = statistics.median(over)
    measured = (
        f"+{middle:.1f} ms ({min(over):.1f} to {max(over):.1f}):"
        f" {statistics.median(endpoint):.1f} against {statistics.median(empty):.1f} ms"
    )
    judged = kind == "one after another"
    return Row(
        f"p50 of a request, {kind}",
        "an empty Serve application of the same shape",
        f"<= {GOAL_MS:g} ms above" if judged else "report",
        measured,
        middle <= GOAL_MS if judged else None,
    )


if __name__ == "__main__":
    main()
