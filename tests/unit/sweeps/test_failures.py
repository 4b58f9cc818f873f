"""What a trial that could not be carried out leaves: a cause, or another attempt where that may help."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from steerline.config.sweep import SweepSpec
from steerline.config.sweep_points import Point, trials
from steerline.errors import TrackingError
from steerline.sweeps import driver as tune_driver
from steerline.sweeps.finetune import FinetuneTrials
from steerline.sweeps.kinds import Ended, Running, StopSign
from steerline.tracking.connection import TrackingDeniedError, TrackingRefusedError
from steerline.training import driver
from tests.unit.sweeps.sweeps import SCALE, sweep_config
from tests.unit.tracking.fake import RUN


def failing(error: TrackingError, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    def open_run(*_: object) -> None:
        raise error

    monkeypatch.setattr(driver, "prepare", lambda _: None)
    monkeypatch.setattr(driver, "open_run", open_run)
    config = sweep_config()
    config["base"]["cluster"] = {"storage_path": str(folder)}
    spec = SweepSpec.model_validate(config)
    (trial,) = trials(spec, Point({SCALE: 2.0}))
    return FinetuneTrials().start(trial, spec, RUN, StopSign(None, folder / "stop"))


@pytest.mark.parametrize("error", [TrackingError, TrackingDeniedError])
def test_a_trial_whose_tracking_server_is_away_or_wants_other_credentials_is_tried_again(
    error: type[TrackingError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = failing(error("no run was begun"), tmp_path, monkeypatch)
    with pytest.raises(error, match="no run was begun"):
        running.next()


def test_a_trial_whose_tracking_server_refuses_its_run_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = failing(TrackingRefusedError("refused to begin the run"), tmp_path, monkeypatch).next()
    assert isinstance(ended, Ended)
    assert ended.found is not None
    assert ended.found.state == "failed"
    assert "refused to begin the run" in str(ended.found.cause)


@pytest.mark.parametrize("text", ["", "\n"])
def test_a_trial_that_left_no_word_has_a_cause_all_the_same(text: str, tmp_path: Path) -> None:
    file = tmp_path / "error.txt"
    file.write_text(text)
    assert tune_driver._cause(SimpleNamespace(error_file=str(file))) == "no reason given"
    assert tune_driver._cause(SimpleNamespace(error_file=None)) == "no reason given"
