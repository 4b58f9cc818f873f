"""What follows the last step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from steerline.errors import AnatomyError
from steerline.models.load import LoadedModel
from steerline.training import finishing
from steerline.training.finishing import card, evaluate_model
from steerline.training.setup import gather_materials
from steerline.training.workers import Workers
from tests.law.runs import tiny_job
from tests.tiny import tiny_model, tiny_tokenizer


def test_the_card_names_the_licence_of_the_base_model(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    tiny_model("gpt2").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    job = tiny_job(tmp_path / "run", model__source={"kind": "local", "path": str(folder)})
    made = card(job, gather_materials(job), 6)
    assert made.base_licence == "apache-2.0"
    assert "| licence of the base | apache-2.0 |" in made.markdown(adapter=False)


@pytest.mark.parametrize("trusted", [False, True])
def test_the_proof_of_an_export_trusts_code_as_far_as_the_config_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    told: list[object] = []
    monkeypatch.setattr(finishing, "verify_logits", lambda *_, **options: told.append(options["trust_remote_code"]))
    job = tiny_job(tmp_path, model__trust_remote_code=trusted)
    finishing._prove(job, (torch.zeros(1, 1),), "eager", torch.device("cpu"))
    assert told == [trusted]


@pytest.mark.parametrize("steered", [False, True])
def test_an_export_is_evaluated_at_the_sites_that_were_named_by_hand(tmp_path: Path, steered: bool) -> None:
    # A path that leads nowhere shows that it was followed.
    job = tiny_job(tmp_path, model__sites={"block_out": "transformer.nowhere.{layer}"})
    loaded = LoadedModel(tiny_model("gpt2"), tiny_tokenizer())
    with pytest.raises(AnatomyError, match="nowhere"):
        evaluate_model(job, loaded, Workers(), steered=steered, say=lambda _: None)
