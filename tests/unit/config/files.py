"""Writes small config files and reads what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from steerline.config.load import load
from steerline.errors import ConfigError, Problem

GOOD = """\
name: tiny
model:
  source: {kind: hub, id: some/model}
data:
  train:
    - source: {kind: file, path: train.jsonl}
      format: {kind: text}
training:
  num_steps: 10
  global_batch_size: 8
"""


def write(folder: Path, name: str, text: str) -> Path:
    """A file with this text."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path, overrides: Sequence[str] = ()) -> dict[str, Problem]:
    """What `load` finds wrong, by dotted path."""
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    found = {problem.path or "": problem for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems), f"a place is reported twice:\n{caught.value}"
    return found
