"""What every test stands on: offline, on the CPU, one thread, no state of the person who runs it."""

from __future__ import annotations

import gc
import os
import sys

import hypothesis
import pytest

# Hypothesis's own profile for such runs: the same examples each time, and none fails for the time it took.
hypothesis.settings.load_profile("ci")
# Images of containers often forbid bytecode: every process of these suites would compile all of torch and transformers.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Before torch, transformers or deepspeed are imported anywhere.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DS_ACCELERATOR"] = "cpu"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
# Ray checks for a newer release and reports usage otherwise.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Workers of parallel test runs get a width of 80, which consoles would keep for good.
os.environ.pop("COLUMNS", None)
# Imports make no garbage, and a lot to look through for it.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """What was imported stays: collections, which DeepSpeed asks for with every engine, look at the rest alone."""
    gc.freeze()
    gc.enable()
