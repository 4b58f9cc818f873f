"""What agents remember."""

from __future__ import annotations

import pytest

from steerline.config.simulation_agents import BeliefMemory, NoMemory, RetrievalMemory, SummaryMemory, WindowMemory
from steerline.simulation.memory import Record, extract, num_words, recall, relevance
from steerline.simulation.runner import run
from tests.unit.simulation.chat import chat
from tests.unit.simulation.worlds import MODEL, Server, llm

RECORDS = [
    Record(0, "message", "the bridge is broken", "bob"),
    Record(1, "observation", "it rains"),
    Record(2, "action", "I stay at home"),
    Record(3, "message", "the bridge is mended", "bob"),
    Record(4, "message", "lunch is ready", "eve"),
]


def test_a_window_holds_the_last_records_in_order() -> None:
    assert recall(WindowMemory(kind="window", size=2), RECORDS, "", 5) == (
        "[tick 3] bob said:\n> the bridge is mended\n[tick 4] eve said:\n> lunch is ready"
    )


def test_retrieval_finds_what_matters_now_and_shows_it_in_order() -> None:
    spec = RetrievalMemory(kind="retrieval", top=2, recency=0.0, importance=0.0)
    assert recall(spec, RECORDS, "Can I cross the bridge?", 5) == (
        "[tick 0] bob said:\n> the bridge is broken\n[tick 3] bob said:\n> the bridge is mended"
    )


def test_recency_and_importance_count_as_they_are_weighed() -> None:
    newest = RetrievalMemory(kind="retrieval", top=1, importance=0.0, relevance=0.0, decay=0.5)
    assert "lunch" in recall(newest, RECORDS, "bridge", 5)
    gravest = RetrievalMemory(kind="retrieval", top=1, recency=0.0, relevance=0.0)
    assert "lunch" in recall(gravest, RECORDS, "rain", 5)


def test_relevance_is_bm25() -> None:
    # Two texts of 2 words; "b" is in one of them: idf = ln(1 + 1.5 / 1.5), tf part = 2.5 / 2.5.
    assert relevance(["a b", "a c"], "b") == [1.0, 0.0]
    assert relevance(["a b", "a b b b"], "b")[0] < 1.0
    assert relevance(["a"], "z") == [0.0]
    assert relevance([], "z") == []


def test_beliefs_are_a_table_of_the_others() -> None:
    assert recall(BeliefMemory(kind="belief"), RECORDS, "", 5) == (
        "bob (heard 2 times, last in tick 3):\n> the bridge is mended\n"
        "eve (heard 1 times, last in tick 4):\n> lunch is ready"
    )


def test_a_summary_stands_for_what_was_before_it() -> None:
    records = [*RECORDS, Record(5, "summary", "All is well."), Record(6, "action", "I go")]
    assert recall(SummaryMemory(kind="summary"), records, "", 7) == "All is well.\n[tick 6] action: I go"


def test_no_memory_is_none() -> None:
    assert recall(NoMemory(kind="none"), RECORDS, "bridge", 5) == ""


@pytest.mark.parametrize("budget", [5, 12, 30])
def test_an_excerpt_keeps_to_its_budget(budget: int) -> None:
    for spec in (
        WindowMemory(kind="window", max_tokens=budget),
        RetrievalMemory(kind="retrieval", max_tokens=budget),
        BeliefMemory(kind="belief", max_tokens=budget),
        SummaryMemory(kind="summary", max_tokens=budget),
    ):
        assert num_words(recall(spec, RECORDS, "bridge", 5)) <= budget
    assert num_words(extract(RECORDS, budget)) <= budget


def test_a_model_writes_its_agents_summaries_and_sees_them_later() -> None:
    server = Server(lambda request: "We met." if "Sum up" in request.messages[1].content else "hello")
    memory = {"memory": {"kind": "summary", "every": 2}}
    result = run(chat(llm(), "greet", models={"m": MODEL}, agent=memory, max_ticks=3), backends={"m": server})
    (event,) = result.of_kind("agent.adjusted")
    assert (event.agent, event.payload["text"]) == ("a", "We met.")
    assert "What you remember:\nWe met." in server.asked[-1].messages[1].content


def test_an_extract_holds_what_others_said_marked_as_theirs() -> None:
    records = [Record(1, "message", "\nI promise 7\nreally", "bob"), Record(1, "action", "ANSWER: 3")]
    assert extract(records, 50) == "[tick 1] bob said:\n> I promise 7\n[tick 1] action: ANSWER: 3"
