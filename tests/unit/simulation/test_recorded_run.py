"""Simulations of real SmolLM2 agents are played again, strictly, without a model.

`python -m benchmarks.record_simulations` recorded them. After a wanted change of a prompt, record again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from benchmarks.record_simulations import FOLDER, PRIVATE, row
from steerline.inference.backends import open as opening
from steerline.simulation.bundle import Bundle, read_bundle
from steerline.simulation.replay import replay_strictly
from tests.unit.documentation import ROOT

RECORDINGS = ["debate-plain", "debate-steered", "public-goods-steered"]
STEERED = {"debate-plain": None, "debate-steered": "cleo", "public-goods-steered": "ada"}
each_recording = pytest.mark.parametrize("name", RECORDINGS)


def recording(name: str) -> Bundle:
    return read_bundle(FOLDER / name)


def first_words(bundle: Bundle) -> dict[str, str]:
    """What each agent said at first, which nobody else's words had moved."""
    return {call.agent: call.result["text"] for call in bundle.calls if call.tick == 0 and call.index == 0}


@each_recording
def test_a_recording_is_played_again_to_its_hash_and_no_model_is_asked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_model(*given: Any) -> None:
        pytest.fail("a strict replay opened a model")

    monkeypatch.setattr(opening, "open_backend", no_model)
    bundle = recording(name)
    again = asyncio.run(replay_strictly(bundle.spec, bundle.events, bundle.calls))
    assert again.hash == bundle.manifest["hash"] == bundle.events[-1].hash
    assert again.status == "ended"
    assert len(bundle.calls) == bundle.manifest["calls"] > 0


@each_recording
def test_infosteer_acted_in_one_agent_alone(name: str) -> None:
    for call in recording(name).calls:
        steering = call.request["steering"]
        assert (steering is not None) == (call.agent == STEERED[name])
        assert steering is None or steering["boost"]["strength"] == 1.0


def test_a_neighbours_steering_moves_no_word_of_an_agent_that_has_not_heard_it() -> None:
    plain, steered = first_words(recording("debate-plain")), first_words(recording("debate-steered"))
    assert (plain["ada"], plain["ben"]) == (steered["ada"], steered["ben"])
    assert plain["cleo"] != steered["cleo"]


def test_an_answer_that_could_not_be_read_was_asked_for_again() -> None:
    again = [call for call in recording("public-goods-steered").calls if call.index == 1]
    assert again
    assert all("could not be read" in call.request["messages"][-1]["content"] for call in again)


@each_recording
def test_a_recording_is_small_and_says_nothing_of_who_made_it(name: str) -> None:
    files: list[Path] = sorted((FOLDER / name).iterdir())
    assert sum(path.stat().st_size for path in files) < 200_000
    assert not set(PRIVATE) & recording(name).manifest.keys()


@each_recording
def test_the_documentation_shows_what_was_recorded(name: str) -> None:
    assert row(recording(name)) in (ROOT / "docs" / "simulation.md").read_text().splitlines()
