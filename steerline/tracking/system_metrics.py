"""How busy the machine is while a run goes on: CPU, memory, disk, network and GPUs, as `system/...` metrics.

The names are those of MLflow's own monitor, so that its page shows them under "System metrics". Its monitor is not
used: it writes to the server by itself, past the spool.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil

from steerline.tracking.recorder import Recorder

logger = logging.getLogger(__name__)

_MB = 1e6
_GPU_FIELDS = ("index", "utilization.gpu", "memory.used", "memory.total", "power.draw")
_GPU_TIMEOUT_S = 10.0


class SystemMonitor:
    """Samples in the background until stopped. The step of a reading is the seconds since the run began.

    Args:
        recorder: the recorder of the owning process.
        every_s: seconds between readings.
        disk: a path on the disk to watch.
        node: name of the machine, put between `system/` and the metric where several machines record to one run.
        seconds: seconds since 1970.
    """

    def __init__(
        self,
        recorder: Recorder,
        every_s: float,
        *,
        disk: Path = Path("/"),
        node: str = "",
        seconds: Callable[[], float] = time.time,
    ) -> None:
        self._recorder = recorder
        self._every_s = every_s
        self._disk = disk
        self._prefix = f"system/{node}/" if node else "system/"
        self._seconds = seconds
        self._stopped = threading.Event()
        self._nvidia_smi = shutil.which("nvidia-smi")
        self._network = psutil.net_io_counters()
        self._thread = threading.Thread(target=self._run, name="steerline-system", daemon=True)

    def start(self) -> SystemMonitor:
        """Begin sampling."""
        psutil.cpu_percent()  # its first answer has no interval to speak of
        self._thread.start()
        return self

    def stop(self) -> None:
        """End sampling. Call it before the recorder is closed."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_GPU_TIMEOUT_S + 1.0)

    def __enter__(self) -> SystemMonitor:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            readings = self.sample()
            if not self._stopped.is_set():
                step = int(self._seconds() - self._recorder.run.start_ms / 1000.0)
                self._recorder.metrics({self._prefix + name: value for name, value in readings.items()}, step)

    def sample(self) -> dict[str, float]:
        """One reading. Megabytes are 10^6 bytes; network traffic counts from the monitor's making."""
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(str(self._disk))
        network = psutil.net_io_counters()
        readings = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MB,
            "system_memory_usage_percentage": memory.percent,
            "process_memory_usage_megabytes": psutil.Process().memory_info().rss / _MB,
            "disk_usage_percentage": disk.percent,
            "disk_available_megabytes": disk.free / _MB,
            "network_receive_megabytes": (network.bytes_recv - self._network.bytes_recv) / _MB,
            "network_transmit_megabytes": (network.bytes_sent - self._network.bytes_sent) / _MB,
        }
        return {**readings, **self._gpu_readings()}

    def _gpu_readings(self) -> dict[str, float]:
        if self._nvidia_smi is None:
            return {}
        query = [self._nvidia_smi, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, timeout=_GPU_TIMEOUT_S, check=True)
            return parse_gpu_table(done.stdout)
        except (subprocess.SubprocessError, OSError) as error:
            logger.warning("tracking: GPU readings end here, nvidia-smi fails: %s", error)
            self._nvidia_smi = None
            return {}


def parse_gpu_table(table: str) -> dict[str, float]:
    """Readings from `nvidia-smi --query-gpu=... --format=csv,noheader,nounits`; fields it cannot tell are left out."""
    readings: dict[str, float] = {}
    for line in table.strip().splitlines():
        index, *cells = [cell.strip() for cell in line.split(",")]
        used_percent, used_mib, total_mib, watts = (_number(cell) for cell in cells)
        named = {
            "utilization_percentage": used_percent,
            "memory_usage_megabytes": None if used_mib is None else used_mib * 2**20 / _MB,
            "memory_usage_percentage": None if used_mib is None or not total_mib else 100.0 * used_mib / total_mib,
            "power_usage_watts": watts,
        }
        readings.update({f"gpu_{index}_{name}": value for name, value in named.items() if value is not None})
    return readings


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:  # "[N/A]", "[Not Supported]"
        return None
