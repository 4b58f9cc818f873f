"""Threads that OpenMP keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from steerline.inference import native_linear, openmp
from steerline.inference.backends.adapted import AdaptedBackend
from steerline.inference.backends.local import LocalBackend
from steerline.steering import native
from tests.adapters import save_adapter
from tests.law.test_inference_laws import served
from tests.tiny import tiny_model
from tests.unit.inference.tiny_backend import complete

TASKS = Path("/proc/self/task")

pytestmark = pytest.mark.skipif(not TASKS.is_dir() or native.load() is None, reason="needs Linux and a compiler")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads() -> set[str]:
    return {task.name for task in TASKS.iterdir()}


def num_new(before: set[str], expected: int) -> int:
    """Threads that have come since; those of other tests may go. One that has ended may be listed a moment longer."""
    deadline = time.monotonic() + 60
    while (found := len(threads() - before)) > expected and time.monotonic() < deadline:
        pass
    return found


WEIGHT, X = torch.randn(96, 32), torch.randn(4, 32)


def compute() -> torch.Tensor:
    return native_linear.linear(X, native_linear.in_panels(WEIGHT), None, len(WEIGHT))


def test_a_thread_that_releases_its_helpers_has_none_and_computes_on(two_threads: None) -> None:
    openmp.release()
    before = threads()
    first = compute()
    assert num_new(before, 1) == 1
    openmp.release()
    assert num_new(before, 0) == 0
    assert torch.equal(compute(), first)
    openmp.release()


def test_neither_who_loads_a_model_keeps_helpers_nor_an_engine_without_rows(two_threads: None) -> None:
    def load() -> LocalBackend:
        compute()
        return served(tiny_model("llama"))

    before = threads()
    with ThreadPoolExecutor(1) as loader:
        backend = loader.submit(load).result()
        assert num_new(before, 1) == 1  # the loader
        asyncio.run(backend.generate([complete("salt")]))
        # Its own two: the engine's, and that of prompts.
        backend._engine._thread.submit(int).result()
        assert num_new(before, 3) == 3
        asyncio.run(backend.close())


def test_an_engine_that_a_fault_ends_keeps_no_helpers(two_threads: None) -> None:
    backend = served(tiny_model("llama"))

    def broken(_: object, inputs: object, output: object) -> None:
        compute()
        raise RuntimeError("out of order")

    backend.model.base_model.register_forward_hook(broken)
    before = threads()
    with pytest.raises(RuntimeError, match="out of order"):
        asyncio.run(backend.generate([complete("salt")]))
    backend._engine._thread.submit(int).result()
    assert num_new(before, 2) == 2  # the engine's own, and that of prompts
    asyncio.run(backend.close())


def test_who_reads_an_adapter_keeps_no_helpers(two_threads: None, tmp_path: Path) -> None:
    # Torch computes with one thread what has less than 32768 numbers.
    save_adapter(tiny_model("llama", hidden=512), tmp_path, r=128, target_modules=["q_proj"])
    base = served(tiny_model("llama", hidden=512))
    before = threads()
    with ThreadPoolExecutor(1) as loader:
        loader.submit(AdaptedBackend.open, base, tmp_path).result()
        assert num_new(before, 1) == 1  # the loader
    asyncio.run(base.close())
