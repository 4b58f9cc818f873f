"""What every test stands on: offline, on the CPU, one thread, no state of the person who runs it."""

from __future__ import annotations

import os
import sys

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
