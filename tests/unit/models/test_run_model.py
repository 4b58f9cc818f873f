"""A model named by the run that exported it."""

from __future__ import annotations

from pathlib import Path

import pytest

from steerline.config.model import ModelSpec
from steerline.errors import ModelError
from steerline.models.load import load_model
from steerline.models.sources import describe, local_folder, prepare
from tests.tiny import tiny_model, tiny_tokenizer

FULL = "small-0123456789"


def spec(run: str) -> ModelSpec:
    return ModelSpec.model_validate({"source": {"kind": "run", "run": run, "trained_by": "jobs/configs/small.yaml"}})


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Steerline home with one run that has exported a model."""
    monkeypatch.setenv("STEERLINE_HOME", str(tmp_path))
    export = tmp_path / "runs" / FULL / "export"
    tiny_model("llama").save_pretrained(export)
    tiny_tokenizer().save_pretrained(export)
    return tmp_path / "runs"


@pytest.mark.parametrize("name", [FULL, "small"])
def test_a_runs_export_is_loaded_by_its_name_or_unique_beginning(runs: Path, name: str) -> None:
    assert local_folder(spec(name)) == runs / FULL / "export"
    assert load_model(spec(name)).model.config.model_type == "llama"
    assert describe(spec(name).source) == f"export of {name}"


def test_a_run_that_exported_nothing_is_an_error_that_says_how_to_train_it(runs: Path) -> None:
    with pytest.raises(ModelError, match="no run of this name") as error:
        prepare(spec("other"))
    assert error.value.fix == "train it: `python -m jobs.finetune jobs/configs/small.yaml`"
    assert local_folder(spec("other")) is None


def test_a_beginning_of_several_names_is_refused_and_a_whole_name_is_not(runs: Path) -> None:
    (runs / "small-0123456789ab" / "export").mkdir(parents=True)
    with pytest.raises(ModelError, match="more than one run") as error:
        prepare(spec("small"))
    assert error.value.expected == f"{FULL}, {FULL}ab"
    prepare(spec(FULL))
