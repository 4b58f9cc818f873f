"""What a worker does when the run is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from steerline.errors import EvaluationError
from steerline.training import worker
from steerline.training.worker import Surroundings
from steerline.training.workers import Workers
from tests.law.runs import tiny_job


class Kept:
    """A recorder's texts."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def text(self, text: str, file: str) -> None:
        self.texts[file] = text


def test_a_figure_that_cannot_be_drawn_fails_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*_: object) -> None:
        raise EvaluationError("the model gives no attention probabilities")

    monkeypatch.setattr(worker, "draw", draw)
    kept, said = Kept(), list[str]()
    around = Surroundings(Workers(), said.append, lambda: False)
    worker._draw(tiny_job(tmp_path), around, kept, {})  # type: ignore[arg-type]
    assert "no attention probabilities" in said[0]
    assert "no attention probabilities" in kept.texts["figures/not_drawn.txt"]
