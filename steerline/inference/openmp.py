"""The threads that OpenMP keeps for a thread which has computed."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from steerline.steering.native import library

_SOFT = 1  # `omp_pause_soft` of OpenMP 5.0: what was set stays


@functools.cache
def _runtime() -> ctypes.CDLL | None:
    # A compiled kernel brings the process's OpenMP, torch's own, with it.
    return library(Path(__file__).with_name("linear.cpp"))


def release() -> None:
    """Ends the helpers of the calling thread; its next computation has new ones, which takes about 0.1 ms.

    GNU's OpenMP lets helpers wait awake between two parallel parts only while a process has no more of them than cores,
    and counts those of idle threads, too: beside them, each part of a pass begins by waking a sleeper. So a thread that
    stops computing gives its helpers up.
    """
    runtime = _runtime()
    if runtime is not None:
        runtime.omp_pause_resource_all(_SOFT)
