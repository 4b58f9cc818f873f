# ruff: noqa: T201
"""Stands in for the real job: does what its config's tags say."""

import os
import sys
import time
from pathlib import Path

from steerline.config.load import load
from steerline.home import storage_folder
from steerline.progress import format_progress

spec = load(Path(sys.argv[1]), sys.argv[3::2]).spec
print(f"tracking: {os.environ.get('MLFLOW_TRACKING_URI')}")
print(f"storage: {storage_folder(spec.cluster.storage_path)}")
print(format_progress(1, 2, {"loss": 0.5}), flush=True)
if spec.tracking.tags.get("then") == "hang":
    time.sleep(600)
sys.exit(int(spec.tracking.tags.get("exit_code", "0")))
