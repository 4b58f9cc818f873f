from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from steerline.cli.watch import Watch, lines, sparkline
from steerline.simulation.engine import Surroundings
from steerline.simulation.event import Event, EventDraft, seal
from steerline.simulation.result import Result
from steerline.simulation.runner import run
from steerline.simulation.sample import sample


def shown(*drafts: EventDraft) -> list[str]:
    return [line.plain for line in lines(list(seal(drafts, 3, 0, "", 0.0)))]


def act(text: str, payload: Any, parse: str = "ok", reason: str = "") -> EventDraft:
    kind = "action.invalid" if parse == "defaulted" else "action.taken"
    return EventDraft("decide", kind, {"text": text, "payload": payload, "parse": parse, "reason": reason}, "ann")


def say(text: str) -> EventDraft:
    payload = {"sender": "ann", "recipients": ["bob", "cat"], "blocks": [{"kind": "text", "text": text}]}
    return EventDraft("route", "msg.sent", payload, "ann")


def test_an_action_is_shown_with_the_words_that_say_more() -> None:
    assert shown(act("ANSWER: 4", 4)) == ["   3  ann: 4"]
    assert shown(act("Twice two.\nANSWER: 4", 4)) == ["   3  ann: 4 | Twice two."]
    assert shown(act('{"bob": 1}', {"bob": 1})) == ['   3  ann: {"bob": 1}']


def test_an_answer_that_was_not_read_says_why() -> None:
    assert shown(act("hm", 0, "defaulted", "no number")) == ["   3  ann: 0 (no number) | hm"]


def test_a_message_is_shown_unless_it_is_the_action_itself() -> None:
    assert shown(act("ANSWER: 4", 4), say("I give 4.")) == ["   3  ann: 4", "   3  ann to bob, cat: I give 4."]
    assert shown(act("I give 4.", "I give 4."), say("I give 4.")) == ["   3  ann: I give 4."]


def test_long_and_marked_up_words_are_one_short_line_as_they_are() -> None:
    (line,) = shown(say("[red]a\n" + "b " * 500))
    assert "[red]a b" in line
    assert len(line) < 300
    assert line.endswith("...")


def test_a_curve_spans_least_to_greatest() -> None:
    assert sparkline([0, 1, 2, 7]) == "▁▂▃█"
    assert sparkline([5, 5]) == "▁▁"


def played(console: Console, agents: int) -> Result:
    spec = sample("public_goods", agents=agents, policies=["random"], ticks=3)
    with Watch(console, spec.max_ticks) as watch:
        return run(spec, around=Surroundings(on_commit=watch.committed))


def test_a_terminal_keeps_the_numbers_below_as_curves() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=100)
    result = played(console, 2)
    text = console.file.getvalue()
    assert "3 of at most 3 ticks" in text
    assert f"mean_contribution  {result.series('mean_contribution')[-1]:.4g}" in text
    assert sparkline(result.series("mean_contribution")) in text
    assert "mean_contribution=" not in text


def test_a_crowd_is_cut_with_a_word_on_how_many_more() -> None:
    console = Console(file=io.StringIO(), width=100)
    played(console, 100)
    text = console.file.getvalue()
    assert text.count("and 77 more in this tick") == 3
    assert text.count("agent-") - text.count('"agent-') == 3 * 24


def test_events_that_are_only_bookkeeping_are_not_shown() -> None:
    hidden: Event
    result = run(sample("public_goods", agents=2, ticks=1))
    for hidden in result.of_kind("tick.started", "tick.committed", "metric.recorded", "msg.delivered"):
        assert list(lines([hidden])) == []
