from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from steerline.tracking.recorder import Recorder
from steerline.tracking.system_metrics import SystemMonitor, parse_gpu_table
from tests.unit.tracking.fake import RUN, FakeBackend


def test_the_gpu_table_is_read_and_unknown_fields_left_out() -> None:
    table = "0, 93, 1024, 2048, 310.5\n1, [N/A], 10, 2048, [Not Supported]\n"
    readings = parse_gpu_table(table)
    assert readings["gpu_0_utilization_percentage"] == 93.0
    assert readings["gpu_0_memory_usage_percentage"] == 50.0
    assert readings["gpu_0_memory_usage_megabytes"] == 1024 * 2**20 / 1e6
    assert readings["gpu_0_power_usage_watts"] == 310.5
    assert "gpu_1_utilization_percentage" not in readings
    assert "gpu_1_power_usage_watts" not in readings


def test_readings_are_recorded_at_the_seconds_since_the_run_began(tmp_path: Path) -> None:
    backend = FakeBackend()
    ticked = threading.Event()
    now = iter(range(1000, 2000, 10))

    def seconds() -> float:
        value = next(now)
        if value >= 1020:
            ticked.set()
        return float(value)

    run = replace(RUN, start_ms=900_000)
    with (
        Recorder(run, tmp_path, backend=backend, buffer_s=0.01) as recorder,
        SystemMonitor(recorder, 0.001, disk=tmp_path, seconds=seconds) as monitor,
    ):
        assert ticked.wait(20)
        sample = monitor.sample()
    steps = [step for step, _ in backend.history("system/cpu_utilization_percentage")]
    assert steps[:2] == [100, 110]
    assert 0.0 < sample["system_memory_usage_percentage"] <= 100.0
    assert sample["process_memory_usage_megabytes"] > 1.0
