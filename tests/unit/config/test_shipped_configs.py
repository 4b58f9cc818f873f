"""Every config that ships is a valid job."""

from __future__ import annotations

from pathlib import Path

import pytest

from steerline.config.load import load
from steerline.config.render import resolved_json, run_name

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "jobs" / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_shipped_config_loads(path: Path) -> None:
    loaded = load(path)
    assert loaded.layers[-1] == path
    assert run_name(loaded.spec).startswith(loaded.spec.name)
    assert resolved_json(loaded.spec)
