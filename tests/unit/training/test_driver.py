"""What the job's own process does around training: here, with a model that the registry does not have yet."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from steerline.config.finetune import FinetuneSpec
from steerline.config.load import Loaded
from steerline.errors import TrackingError
from steerline.training import driver
from steerline.training.driver import Driver
from steerline.training.job import Job, Outcome, evaluation_config
from tests.law.runs import tiny_config
from tests.unit.tracking.fake import RUN


class Surroundings:
    """Stands in for Ray Train and MLflow, which is away until the test says otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = True
        self.trained = 0
        self.registered: list[tuple[object, ...]] = []
        monkeypatch.setattr(driver, "prepare", lambda _: None)
        monkeypatch.setattr(driver, "open_run", lambda *_: RUN)
        monkeypatch.setattr(driver, "train", self._train)
        monkeypatch.setattr(driver, "Recorder", self._recorder)
        monkeypatch.setattr(driver, "register", self._register)
        monkeypatch.setattr(driver, "finish", lambda *_: None)

    def _train(self, job: Job) -> Outcome:
        self.trained += 1
        outcome = Outcome(job.name, "finished", evaluated_as=evaluation_config(job.spec))
        outcome.save(job.folder)
        return outcome

    def _recorder(self, *_: object) -> Surroundings:
        return self

    def __enter__(self) -> Surroundings:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is kept."""

    def flush(self) -> bool:
        return not self.away

    def _register(self, *what: object) -> SimpleNamespace:
        self.registered.append(what)
        return SimpleNamespace(uri="models:/tiny/1")


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    return Surroundings(monkeypatch)


def job(folder: Path, alias: str = "candidate") -> Loaded[FinetuneSpec]:
    config = tiny_config(
        cluster={"storage_path": str(folder)}, tracking={"register_as": {"name": "tiny", "alias": alias}}
    )
    return Loaded(FinetuneSpec.model_validate(config), {}, ())


def test_a_model_that_mlflow_was_away_for_is_registered_by_the_same_config_again_without_training(
    around: Surroundings, tmp_path: Path
) -> None:
    with pytest.raises(TrackingError, match="not registered"):
        Driver(job(tmp_path)).run()
    around.away = False
    for _ in range(2):
        assert Driver(job(tmp_path)).run() == 0
    assert around.registered == [(RUN, "export", "tiny", "candidate")]
    assert around.trained == 1


def test_a_finished_run_whose_registration_changed_is_registered_anew(around: Surroundings, tmp_path: Path) -> None:
    around.away = False
    for alias in ("candidate", "champion", "champion"):
        assert Driver(job(tmp_path, alias)).run() == 0
    assert [what[-1] for what in around.registered] == ["candidate", "champion"]
    assert around.trained == 1
