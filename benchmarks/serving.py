"""Serving text: rows that join and leave a running batch, against static batches and other servers' engines.

    python -m benchmarks.serving [--repetitions 5] [--threads 2]

All contestants continue the same prompts with the packaged SmolLM2-135M-instruct, greedily, each to the length that its
request names, whatever the model says of an end. Tokens count for those who asked for them. One process, float32 unless
the row says otherwise; contestants run interleaved, and ratios are taken within a repetition.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence

import psutil
import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from benchmarks.results import Report, Row, save
from benchmarks.serving_load import BATCH, Continuous, Load, Serve, Static, closed_loop, open_loop
from benchmarks.timing import Ratio, interleave, ratio
from steerline.config.inference import LocalBackendSpec, SamplingSpec
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.inference.backends.local import LocalBackend
from steerline.inference.request import GenRequest
from steerline.models.load import LoadedModel

WORDS = [
    "the",
    "river",
    "runs",
    "past",
    "an",
    "old",
    "mill",
    "where",
    "people",
    "met",
    "to",
    "trade",
    "grain",
    "salt",
    "and",
    "news",
    "of",
    "the",
    "hills",
    "beyond",
]
STEERING = SteeringSpec(boost=BoostSpec(strength=0.5))
EACH = 48  # new tokens in the steady state
PREFIX = 500  # tokens, about
CLIENTS = (1, 4, 16, 64)


def options(about: str | None) -> argparse.ArgumentParser:
    """What every benchmark of serving text takes."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu",), help="for `make bench`; measured on CPUs alone")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def text(seed: object, words: int) -> str:
    dice = random.Random(str(seed))
    return " ".join(dice.choice(WORDS) for _ in range(words))


def request(prompt: str, max_tokens: int, steering: SteeringSpec | None = None) -> GenRequest:
    return GenRequest("m", prompt=prompt, sampling=SamplingSpec(max_tokens=max_tokens), steering=steering)


def mixed(count: int, seed: object) -> list[GenRequest]:
    """Prompts of 20 to 100 words, answers of 4 to 96 tokens, short ones more often."""
    dice = random.Random(str(seed))
    lengths = [min(96, 4 + int(dice.expovariate(1 / 24))) for _ in range(count)]
    return [request(text((seed, n), dice.randrange(20, 100)), length) for n, length in enumerate(lengths)]


def load(dtype: str) -> LoadedModel:
    """The model, which ends no text by itself."""
    source = {"kind": "packaged", "name": "smollm2-135m-instruct"}
    loaded = LocalBackend.load(LocalBackendSpec.model_validate({"model": {"source": source}, "dtype": dtype}))
    loaded.tokenizer.pad_token, loaded.tokenizer.padding_side = loaded.tokenizer.eos_token, "left"
    loaded.tokenizer.eos_token = None
    loaded.model.generation_config.eos_token_id = None
    return loaded


def backend(loaded: LoadedModel) -> LocalBackend:
    """A fresh one, which has kept nothing of any prompt."""
    source = {"kind": "packaged", "name": "smollm2-135m-instruct"}
    return LocalBackend(loaded, LocalBackendSpec.model_validate({"model": {"source": source}}))


def seconds(act: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def in_batch(loaded: LoadedModel, steering: SteeringSpec | None, seed: int) -> float:
    """Tokens a second of one full batch through our engine."""
    local = backend(loaded)
    requests = [request(text((seed, n), 60), EACH, steering) for n in range(BATCH)]
    return BATCH * EACH / seconds(lambda: asyncio.run(local.generate(requests)))


def static_batch(static: Static, seed: int) -> float:
    requests = [request(text((seed, n), 60), EACH) for n in range(BATCH)]
    return BATCH * EACH / seconds(lambda: static.generate(requests))


def transformers_continuous(loaded: LoadedModel, seed: int) -> float:
    """Tokens a second of Transformers' own continuous batching, its memory bounded to what ours may take."""
    ids = [loaded.tokenizer(text((seed, n), 60))["input_ids"] for n in range(BATCH)]
    config = GenerationConfig(do_sample=False, max_new_tokens=EACH, pad_token_id=0, eos_token_id=-1)
    memory = ContinuousBatchingConfig(num_blocks=64, max_batch_tokens=512, use_cuda_graph=False)
    before = loaded.model.config._attn_implementation
    try:
        took = seconds(
            lambda: loaded.model.generate_batch(ids, generation_config=config, continuous_batching_config=memory)
        )
    finally:
        loaded.model.set_attn_implementation(before)
    return BATCH * EACH / took


def poisson(serve: Callable[[], Serve], per_s: float, seed: int) -> Load:
    return asyncio.run(open_loop(serve(), mixed(2 * BATCH, seed), per_s, seed))


def prefill(loaded: LoadedModel, shared: bool, seed: int) -> tuple[float, int]:
    """Seconds and computed tokens of 8 prompts of about 540 tokens that begin alike, or do not."""
    local = backend(loaded)
    requests = [
        request(f"{text((seed, 0 if shared else n), PREFIX)} {text((seed, 'own', n), 30)}", 1) for n in range(8)
    ]
    results = []
    took = seconds(lambda: results.extend(asyncio.run(local.generate(requests))))
    return took, sum(result.usage.prompt_tokens - result.usage.cached_tokens for result in results)


def loops(contestants: dict[str, Callable[[], Serve]]) -> list[Row]:
    """Closed loops of several sizes, once each."""
    rows = []
    for clients in CLIENTS:
        requests = mixed(max(4, min(2 * clients, 64)), clients)
        seen = {name: asyncio.run(closed_loop(serve(), requests, clients)) for name, serve in contestants.items()}
        ours, static = seen["ours"], seen["static"]
        rows.append(
            Row(
                f"closed loop, {clients} client{'s' * (clients > 1)}",
                "static batches of what waits",
                "report",
                f"{ours.tokens_per_s:.0f} tokens/s, p50 {ours.p50:.2f} s, p95 {ours.p95:.2f} s; "
                f"theirs {static.tokens_per_s:.0f}, {static.p50:.2f} s, {static.p95:.2f} s",
                None,
            )
        )
        print(rows[-1].what, rows[-1].measured, flush=True)
    return rows


def main() -> None:
    args = options(__doc__).parse_args()
    torch.set_num_threads(args.threads)
    # Our backend takes its model over, so the others have their own.
    loaded, half, plain, plain_half = (load(dtype) for dtype in 2 * ("float32", "bfloat16"))
    static, static_half = (Static(one.model, one.tokenizer) for one in (plain, plain_half))
    services: dict[str, Callable[[], Serve]] = {
        "ours": lambda: Continuous(backend(loaded)),
        "static": lambda: Static(plain.model, plain.tokenizer),
    }
    for warm in (loaded, half):
        in_batch(warm, STEERING, -1)
    # Twice what static batches bear when they are full: all that comes is more than either can answer at once.
    per_s = 2 * static_batch(static, -1) / 28
    arrivals: dict[str, list[Load]] = {name: [] for name in services}
    turn = {name: iter(range(args.repetitions)) for name in "abcdefghij"}

    def arriving(name: str, clock: str) -> float:
        arrivals[name].append(poisson(services[name], per_s, next(turn[clock])))
        return arrivals[name][-1].tokens_per_s

    load_before = psutil.getloadavg()[0]
    samples = interleave(
        {
            "ours": lambda: in_batch(loaded, None, next(turn["a"])),
            "static": lambda: static_batch(static, next(turn["b"])),
            "steered": lambda: in_batch(loaded, STEERING, next(turn["c"])),
            "transformers": lambda: transformers_continuous(plain, next(turn["d"])),
            "ours, bf16": lambda: in_batch(half, None, next(turn["e"])),
            "static, bf16": lambda: static_batch(static_half, next(turn["f"])),
            "ours, Poisson": lambda: arriving("ours", "g"),
            "static, Poisson": lambda: arriving("static", "h"),
        },
        repetitions=args.repetitions,
    )
    for name, values in samples.items():
        print(
            f"{name:<18}{statistics.median(values):8.1f} tokens/s  ({min(values):.1f} to {max(values):.1f})", flush=True
        )
    prefills = [(prefill(loaded, True, seed), prefill(loaded, False, seed)) for seed in range(3)]
    rows = [*rows_of(samples, arrivals, per_s), *prefix_rows(prefills)]
    save(report(rows, args, load_before))  # what follows takes as long again, and is a report alone
    save(report([*rows, *loops(services)], args, load_before))


def rows_of(samples: dict[str, list[float]], arrivals: dict[str, list[Load]], per_s: float) -> list[Row]:
    def row(what: str, name: str, against: str, goal: float | None, whom: str) -> Row:
        found = ratio(samples, name, against)
        rate = statistics.median(samples[name])
        wanted = "report" if goal is None else f">= {goal}"
        reached = None if goal is None else found.median >= goal
        return Row(what, whom, wanted, f"{found}; {rate:.0f} tokens/s", reached)

    steering = ratio(samples, "ours", "steered")
    full = f"tokens/s, {BATCH} rows in steady state"
    rows = [
        row(full, "ours", "static", 1.0, "static `generate`"),
        row(f"{full}, bfloat16", "ours, bf16", "static, bf16", None, "static `generate`, bfloat16"),
        row(full, "ours", "transformers", None, "Transformers' continuous batching"),
        Row("time, every row steered", "unsteered", "<= 1.05", str(steering), steering.median <= 1.05),
        row(f"tokens/s, {per_s:.1f} requests/s by Poisson", "ours, Poisson", "static, Poisson", 1.5, "static batches"),
    ]
    for part in ("p50", "p95"):
        mine, theirs = ([getattr(load, part) for load in arrivals[name]] for name in ("ours", "static"))
        found = ratio({"ours": mine, "static": theirs}, "ours", "static")
        measured = f"{found}; {statistics.median(mine):.2f} s against {statistics.median(theirs):.2f} s"
        rows.append(Row(f"{part} latency under these arrivals", "static batches", "report", measured, None))
    return rows


def prefix_rows(prefills: Sequence[tuple[tuple[float, int], tuple[float, int]]]) -> list[Row]:
    fewer = [apart[1] / shared[1] for shared, apart in prefills]
    faster = [apart[0] / shared[0] for shared, apart in prefills]
    tokens, times = (Ratio(statistics.median(some), min(some), max(some)) for some in (fewer, faster))
    what = f"8 prompts that share {PREFIX} words"
    return [
        Row(
            f"prompt tokens computed, {what}",
            "the same without sharing",
            ">= 3 times fewer",
            str(tokens),
            tokens.median >= 3,
        ),
        Row(f"time to all first tokens, {what}", "the same without sharing", "report", f"{times} times less", None),
    ]


def report(rows: list[Row], args: argparse.Namespace, load_before: float) -> Report:
    notes = [
        "Static batches take up to 16 of whatever waits, padded on the left, and end with their longest answer.",
        "Transformers' continuous batching packs all rows into one sequence, in which a hook cannot tell whose "
        "strength is whose; that decided for an engine of our own.",
        f"{args.threads} threads, {args.repetitions} repetitions; the machine bore a load of {load_before:.1f} at the "
        f"start and {psutil.getloadavg()[0]:.1f} at the end, of which this process made about {args.threads}.",
    ]
    return Report("serving", "Serving text: a running batch", "python -m benchmarks.serving", rows, notes)


if __name__ == "__main__":
    main()
