"""A person's way through the console, in headless Chromium, against the real application."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
TABLET = {"width": 768, "height": 1024}
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1440, "height": 900}
WAIT_MS = 60_000
expect.set_options(timeout=WAIT_MS)


@dataclass(frozen=True)
class Endpoint:
    """The application that runs, and calls of it."""

    url: str
    key: str
    http: httpx.Client

    def make(self, *, start: bool = True, **fields: Any) -> str:
        """A simulation by name `name`, and its id."""
        answer = self.http.post("/v1/simulations", params={"start": start}, json=fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def tries(self, **fields: Any) -> str:
        """An experiment, and its id."""
        answer = self.http.post("/v1/experiments", json=fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def status(self, sim: str) -> str:
        """How a simulation stands."""
        return str(self.http.get(f"/v1/simulations/{sim}").json()["status"])

    def spec(self, sim: str) -> dict[str, Any]:
        """What a simulation was made of."""
        found: dict[str, Any] = self.http.get(f"/v1/simulations/{sim}").json()["spec"]
        return found


@dataclass
class Held:
    """Calls that are not let through until somebody says so."""

    routes: list[Route] = field(default_factory=list)
    open: bool = False

    def meet(self, route: Route) -> None:
        """Decide what becomes of a call."""
        if self.open:
            route.continue_()
        else:
            self.routes.append(route)

    def let_through(self) -> None:
        """Also those that are still on their way here."""
        self.open = True
        for route in self.routes:
            route.continue_()


@dataclass
class Person:
    """Somebody at a browser, with what the browser complained about."""

    page: Page
    endpoint: Endpoint
    complaints: list[str] = field(default_factory=list)

    def goes(self, place: str) -> None:
        """Open a view by what stands behind the `#`."""
        self.page.goto(f"{self.endpoint.url}/console/#/{place}")

    def holds_back(self, calls: str) -> Held:
        """Keep such calls from being answered."""
        held = Held()
        self.page.route(calls, held.meet)
        return held

    def loses_the_key_at(self, calls: str) -> None:
        """Have the next of such calls answered as one with an expired key is.

        A browser that is told so just before a call may let that call through: tell it before the page is opened.
        """
        error = {"error": {"message": "the key has expired", "code": "invalid_api_key"}}
        self.page.route(calls, lambda route: route.fulfill(status=401, json=error), times=1)

    def gives_another_key(self) -> None:
        """Enter a key that is good, where another one is asked for."""
        dialog = self.page.get_by_role("dialog", name="Another API key")
        dialog.get_by_label("Key", exact=True).fill(self.endpoint.key)
        dialog.get_by_role("button", name="Go on").click()
        expect(dialog).to_be_hidden()
        self.was_refused("401")

    def was_refused(self, status: str) -> None:
        """The browser complained about answers of one status and of nothing else; that was meant."""
        assert all(status in said for said in self.complaints), self.complaints
        self.complaints.clear()

    def presses(self, name: str) -> None:
        """Press a button by its words."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def reads(self, text: str) -> None:
        """Wait until the transcript says something."""
        expect(self.page.get_by_role("log", name="Transcript")).to_contain_text(text)

    def is_at(self, tick: int, of: int) -> None:
        """Wait until so many ticks have been played."""
        expect(self.page.locator(".head .facts")).to_contain_text(f"tick {tick} of {of}")

    def stands(self, status: str) -> None:
        """Wait until the simulation stands so."""
        expect(self.page.locator(".head .status")).to_have_text(status)


def _scripted(name: str, policy: str) -> dict[str, Any]:
    return {"id": name, "brain": {"kind": "scripted", "policy": policy}, "memory": {"kind": "window"}}


def _llm(name: str, strength: float) -> dict[str, Any]:
    brain = {"kind": "llm", "model": "voice", "steering": {"boost": {"strength": strength}}}
    return {"id": name, "brain": brain, "memory": {"kind": "window"}}


def _goods(name: str, **fields: Any) -> dict[str, Any]:
    agents = [_llm("ann", 0.0), _llm("bob", 1.0), _scripted("cleo", "conditional")]
    params = {"rounds": 6}
    return {"name": name, "scenario": "public_goods", "params": params, "max_ticks": 6, "agents": agents, **fields}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    command = [sys.executable, "-m", "tests.e2e.console_app", str(tmp_path_factory.mktemp("console"))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the application did not start"
        url, key = line.split()
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as http:
            yield Endpoint(url, key, http)
        process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here; Debian's package `chromium` has one")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


Enter = Callable[..., Person]


@pytest.fixture
def enter(browser: Browser, endpoint: Endpoint) -> Iterator[Enter]:
    """Somebody comes in; in the end no page may have complained, or asked anybody else for anything."""
    came: list[tuple[BrowserContext, Person]] = []

    def come(*, key: bool = True, **how: Any) -> Person:
        context = browser.new_context(**{"viewport": DESK, "reduced_motion": "reduce", **how})
        context.set_default_timeout(WAIT_MS)
        person = Person(context.new_page(), endpoint)
        page, complaints = person.page, person.complaints
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: _is_own(asked.url, endpoint) or complaints.append(f"asked {asked.url}"))
        came.append((context, person))
        if key:
            page.add_init_script(f"sessionStorage.setItem('steerline.key', '{endpoint.key}')")
        return person

    yield come
    for context, person in came:
        context.close()
        assert person.complaints == []


def _is_own(url: str, endpoint: Endpoint) -> bool:
    return url.startswith((endpoint.url, "data:", f"blob:{endpoint.url}"))


def test_a_person_enters_a_key_starts_a_simulation_from_the_form_and_watches_it_to_its_end(enter: Enter) -> None:
    person = enter(key=False)
    page = person.page
    person.goes("")
    expect(page.get_by_text("steerline keys create")).to_be_visible()
    page.get_by_label("Key", exact=True).fill(person.endpoint.key)
    person.presses("Go on")
    page.get_by_role("navigation").get_by_role("link", name="New").click()
    page.get_by_role("radio", name="Public goods").check()
    page.get_by_label("Who decides for agent-2").select_option("model:voice")
    page.get_by_label("Steering of agent-2, as a number").fill("1.5")
    page.get_by_label("rounds").fill("4")
    page.get_by_label("name", exact=True).fill("from-the-form")
    person.presses("Start")
    expect(page.get_by_role("heading", level=1)).to_have_text("from-the-form")
    person.stands("ended")
    person.is_at(4, 30)
    person.reads("Steered with 1.5, I look where I seldom look.")
    expect(page.get_by_role("img", name=re.compile("^mean contribution"))).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^agent-2, steered with 1.5, last: 10"))).to_be_visible()
    page.get_by_role("link", name="Simulations", exact=True).click()
    page.get_by_label("How they stand").select_option("failed")
    expect(page.get_by_text("No simulation is failed now.")).to_be_visible()
    page.get_by_label("How they stand").select_option("ended")
    row = page.get_by_role("row", name=re.compile("from-the-form.*ended"))
    expect(row).to_be_visible()
    row.get_by_role("link", name="from-the-form", exact=True).click()
    page.get_by_role("link", name="Again").click()
    expect(page.get_by_label("Steering of agent-2, as a number")).to_have_value("1.5")
    expect(page.get_by_label("rounds")).to_have_value("4")
    page.get_by_role("button", name="Forget the API key").click()
    expect(page.get_by_label("Key", exact=True)).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('steerline.key')") is None


def test_a_wrong_key_is_asked_for_again_with_the_reason(enter: Enter) -> None:
    person = enter(key=False)
    person.goes("")
    person.page.get_by_label("Key", exact=True).fill("sk-steerline-wrong")
    person.presses("Go on")
    dialog = person.page.get_by_role("dialog", name="Another API key")
    expect(dialog.get_by_role("status")).to_contain_text("unknown, revoked or expired")
    person.gives_another_key()
    expect(person.page.get_by_role("heading", name="Simulations")).to_be_visible()
    expect(dialog).to_be_hidden()


def test_what_was_written_into_the_form_outlives_the_key_and_is_sent_with_the_next_one(enter: Enter) -> None:
    person = enter()
    page = person.page
    for calls in ("**/v1/scenarios/fishery", "**/v1/experiments", "**/v1/simulations?*"):
        person.loses_the_key_at(calls)
    person.goes("new")
    page.get_by_label("name", exact=True).fill("outlived")
    page.get_by_label("rounds").fill("2")
    page.get_by_label("As an experiment").check()
    page.get_by_label("Seeds").fill("3-4")
    page.get_by_role("radio", name="Fishery").check()
    _is_accessible(page, "another key")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    person.gives_another_key()
    expect(page.get_by_label("months")).to_be_visible()
    page.get_by_role("radio", name="Public goods").check()
    expect(page.get_by_label("rounds")).to_have_value("2")
    expect(page.get_by_label("Seeds")).to_have_value("3-4")
    person.presses("Start")
    person.gives_another_key()
    expect(page.get_by_role("heading", level=1)).to_have_text("outlived")
    expect(page.get_by_text("2 ended of 2")).to_be_visible()
    page.get_by_role("navigation").get_by_role("link", name="Simulations").click()
    person.presses("Leave, and drop what is open")
    expect(page.get_by_role("heading", name="API key", exact=True)).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('steerline.key')") is None
    person.was_refused("401")


def test_a_message_outlives_the_key_and_the_focus_stays_in_it(enter: Enter, endpoint: Endpoint) -> None:
    person = enter()
    page = person.page
    person.loses_the_key_at("**/v1/chat/completions")
    person.goes("chat")
    page.get_by_label("Your message").fill("Are you there?")
    page.keyboard.press("Enter")
    person.gives_another_key()
    expect(page.get_by_role("log", name="Conversation")).to_contain_text("I speak as I always do.")
    person.goes(f"run/{endpoint.make(**_goods('talk'), start=False)}")
    page.get_by_role("button", name="ann voice").click()
    expect(page.get_by_role("region", name="Memory of ann")).to_contain_text("It remembers nothing so far.")
    question = page.get_by_label("Ask ann, or tell it something")
    question.fill("What do you")
    person.loses_the_key_at("**/v1/simulations/*")  # The page looks again and again.
    person.gives_another_key()
    expect(question).to_be_focused()
    expect(question).to_have_value("What do you")


def test_a_simulation_that_is_not_there_is_said_to_be_missing(enter: Enter) -> None:
    person = enter()
    person.goes("run/nothing")
    expect(person.page.get_by_role("alert")).to_have_text("There is no simulation nothing.")
    _is_accessible(person.page, "run/nothing")
    person.page.get_by_role("link", name="All simulations", exact=True).click()
    expect(person.page.get_by_role("heading", name="Simulations")).to_be_visible()
    person.was_refused("404")


def test_moving_an_agents_steering_changes_what_it_says_from_the_next_tick_on(enter: Enter, endpoint: Endpoint) -> None:
    person = enter()
    page = person.page
    person.goes(f"run/{endpoint.make(**_goods('steered'), start=False)}")
    person.stands("created")
    person.presses("Step")
    person.is_at(1, 6)
    person.stands("paused")
    page.get_by_role("button", name=re.compile("^ann, last")).click()
    page.get_by_label("Steering strength", exact=True).fill("2")
    person.presses("Steer from the next tick")
    expect(page.get_by_text("Sent. It acts from the next tick on.")).to_be_visible()
    page.get_by_label("Steering strength", exact=True).fill("0.5")
    page.get_by_label("Ask ann, or tell it something").fill("What do you make of this?")
    person.presses("Interview")
    expect(page.get_by_text("The answer comes in the transcript")).to_be_visible()
    page.get_by_label("Ask ann, or tell it something").fill("The pot leaks.")
    person.presses("Send as a message")
    expect(page.get_by_text("Sent. It arrives with the next tick.")).to_be_visible()
    person.presses("Step")
    person.is_at(2, 6)
    person.reads("ann is steered with 2 from here on")
    expect(page.get_by_label("Steering strength", exact=True)).to_have_value("0.5")
    person.reads("What do you make of this?")
    person.reads("The pot leaks.")
    second = page.get_by_role("region", name="Tick 2").get_by_role("article")
    expect(second.filter(has_text="Steered with 2, I look where I seldom look.").first).to_be_visible()
    expect(page.get_by_role("region", name="Tick 1")).to_contain_text("I speak as I always do.")
    expect(page.get_by_role("region", name="Memory of ann")).to_contain_text("Steered with 2")
    person.presses("Resume")
    person.stands("ended")


def test_what_is_written_while_a_message_is_on_its_way_stays(enter: Enter, endpoint: Endpoint) -> None:
    person = enter()
    page = person.page
    held = person.holds_back("**/v1/simulations/*:inject")
    person.goes(f"run/{endpoint.make(**_goods('told'), start=False)}")
    page.get_by_role("button", name="ann voice").click()
    words = page.get_by_label("Ask ann, or tell it something")
    words.fill("The pot leaks.")
    person.presses("Send as a message")
    words.fill("And the roof?")
    held.let_through()
    expect(page.get_by_text("Sent. It arrives with the next tick.")).to_be_visible()
    expect(words).to_have_value("And the roof?")


def test_no_agent_is_shown_with_the_memory_of_another(enter: Enter, endpoint: Endpoint) -> None:
    person = enter()
    page = person.page
    held = person.holds_back("**/agents/bob/memory*")
    person.goes(f"run/{endpoint.make(**_goods('remembers'))}")
    person.stands("ended")
    page.get_by_role("button", name=re.compile("^ann, last")).click()
    expect(page.get_by_role("region", name="Memory of ann").get_by_role("listitem").first).to_be_visible()
    page.get_by_role("button", name=re.compile("^bob, steered")).click()
    memory = page.get_by_role("region", name="Memory of bob")
    expect(memory).to_be_visible()
    expect(memory.get_by_role("listitem")).to_have_count(0)
    held.let_through()
    expect(memory).to_contain_text("Steered with 1")


def test_no_pair_is_shown_with_the_comparison_of_another(enter: Enter, endpoint: Endpoint) -> None:
    person = enter()
    page = person.page
    one, same, other = (endpoint.make(**_goods(f"pair-{seed}", seed=seed)) for seed in (0, 0, 1))
    for sim in (one, same, other):
        _until_ended(endpoint, sim)
    held = person.holds_back(f"**/v1/simulations/{other}/events*")
    person.goes(f"compare?a={one}&b={same}")
    difference = page.get_by_role("region", name="Where they part")
    expect(difference).to_contain_text("They do not differ")
    page.get_by_label("Second").select_option(other)
    expect(difference).to_be_hidden()
    held.let_through()
    expect(difference).to_be_visible()


def test_the_past_can_be_looked_at_forked_and_compared_with_what_came_of_it(enter: Enter, endpoint: Endpoint) -> None:
    person = enter()
    page = person.page
    first = endpoint.make(**_goods("original"))
    person.goes(f"run/{first}")
    person.stands("ended")
    page.get_by_role("slider", name="Newest tick 6").fill("3")
    expect(page.get_by_text("Looking at tick 3")).to_be_visible()
    expect(page.get_by_role("region", name="Tick 3")).to_be_visible()
    expect(page.get_by_role("region", name="Tick 4")).to_be_hidden()
    person.presses("Fork")
    dialog = page.get_by_role("dialog", name="Fork")
    expect(dialog.get_by_label("After tick")).to_have_value("3")
    dialog.get_by_label("Name").fill("what-if")
    dialog.get_by_label("Who decides for cleo").select_option("policy:free_rider")
    dialog.get_by_label("Steering of ann", exact=True).fill("1")
    dialog.get_by_role("button", name="Fork").click()
    expect(page).to_have_url(re.compile(f"#/run/(?!{first})"))
    person.stands("ended")
    person.reads("cleo is played by free_rider from here on")
    page.get_by_role("link", name="Compare", exact=True).last.click()
    page.get_by_label("Second").select_option(first)
    expect(page.get_by_role("heading", name=re.compile("^They part in tick 4, after"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^mean contribution; what-if.*; original"))).to_be_visible()


def test_a_person_takes_a_seat_answers_and_the_simulation_goes_on(enter: Enter, endpoint: Endpoint) -> None:
    person = enter()
    page = person.page
    agents = [{"id": "me", "brain": {"kind": "human"}}, _scripted("bob", "cooperator")]
    person.goes(f"run/{endpoint.make(**_goods('seat', params={'rounds': 2}, max_ticks=2, agents=agents))}")
    person.stands("waiting for a person")
    seat = page.get_by_role("form", name="You are me, tick 1")
    expect(seat).to_contain_text("How many points do you put into the pot?")
    seat.get_by_label("What you say (if anything)").fill("I give what I can.")
    seat.get_by_label("Your answer, 0 to 20").fill("7")
    seat.get_by_role("button", name="Answer").click()
    person.reads("I give what I can.")
    again = page.get_by_role("form", name="You are me, tick 2")
    expect(again.get_by_role("heading")).to_be_focused()
    again.get_by_label("Your answer, 0 to 20").fill("3")
    again.get_by_role("button", name="Answer").click()
    person.stands("ended")
    expect(page.get_by_role("form", name=re.compile("^You are me"))).to_be_hidden()


@pytest.mark.parametrize("status", [200, 503])
def test_an_answer_that_comes_late_does_not_put_a_simulation_back_to_how_it_stood(
    enter: Enter, endpoint: Endpoint, status: int
) -> None:
    person = enter()
    page = person.page
    agents = [{"id": "me", "brain": {"kind": "human"}}, _scripted("bob", "cooperator")]
    sim = endpoint.make(**_goods("late-answer", params={"rounds": 1}, max_ticks=1, agents=agents))
    person.goes(f"run/{sim}")
    seat = page.get_by_role("form", name="You are me, tick 1")
    seat.get_by_label("Your answer, 0 to 20").fill("7")
    asked = endpoint.http.get(f"/v1/simulations/{sim}/questions").json()
    held: list[Route] = []
    page.route(f"**/v1/simulations/{sim}/questions", lambda route: held.insert(0, route))
    with page.expect_request(f"**/v1/simulations/{sim}/questions"):
        pass  # The page looks now and then while the simulation waits.
    seat.get_by_role("button", name="Answer").click()
    person.stands("ended")
    expect(page.locator(".connection.is-over")).to_be_attached()
    for late in held:
        with page.expect_event("requestfinished"):
            late.fulfill(status=status, json=asked)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    person.stands("ended")
    expect(page.get_by_role("alert")).to_be_hidden()
    person.was_refused(f"{status}")


def test_a_crowd_with_its_topology_plan_and_limits_is_put_together_in_the_form(
    enter: Enter, endpoint: Endpoint
) -> None:
    person = enter()
    page = person.page
    person.goes("new?scenario=public_goods")
    for _ in range(5):
        page.get_by_role("button", name=re.compile("^Remove agent-")).first.click()
    person.presses("More of agent-6")
    page.get_by_label("goals").fill("win\nbe liked")
    page.get_by_text("Crowd").click()
    page.get_by_label("More agents").select_option("mix")
    page.get_by_label("count").fill("6")
    person.presses("Add a group")
    page.get_by_label("Weight of group 2").fill("2")
    page.get_by_label("Who decides for group 2").select_option("model:voice")
    page.get_by_label("Steering of group 2, as a number").fill("1.5")
    page.get_by_text("Who hears whom").click()
    page.get_by_label("topology", exact=True).last.select_option("small_world")
    page.get_by_label("rewire").fill("0.3")
    page.get_by_text("Between ticks").click()
    person.presses("Add to workflow")
    page.get_by_label("at", exact=True).fill("1")
    page.get_by_label("message", exact=True).fill("The pot leaks.")
    page.get_by_text("Limits and late answers").click()
    page.get_by_label("maximum calls", exact=True).fill("40")
    person.presses("Start")
    person.stands("ended")
    person.reads("The pot leaks.")
    expect(page.get_by_role("button", name=re.compile("^agent-0001")).first).to_be_visible()
    spec = endpoint.spec(page.url.rsplit("/", 1)[1])
    assert [agent["id"] for agent in spec["agents"]] == ["agent-6", "agent-7"]
    assert spec["agents"][0]["profile"]["goals"] == ["win", "be liked"]
    groups = spec["population"]["groups"]
    assert [group["weight"] for group in groups] == [1, 2]
    assert groups[1]["brain"]["steering"]["boost"]["strength"] == 1.5
    assert (spec["topology"]["kind"], spec["topology"]["rewire"]) == ("small_world", 0.3)
    assert (spec["workflow"][0]["at"], spec["budgets"]["max_calls"]) == (1, 40)


def test_what_the_endpoint_refuses_is_told_at_the_field_that_is_meant(enter: Enter) -> None:
    person = enter()
    page = person.page
    person.goes("new")
    page.get_by_text("Limits and late answers").click()
    page.get_by_label("policy").select_option("late")
    page.get_by_text("Limits and late answers").click()
    expect(page.get_by_label("policy")).to_be_hidden()
    person.presses("Start")
    expect(page.get_by_text("Nothing is late without a time.", exact=True)).to_be_focused()
    page.get_by_label("Timeout (s)").fill("5")
    expect(page.get_by_role("alert")).to_be_hidden()
    field = page.get_by_label("maximum ticks")
    field.fill("2000000")
    person.presses("Start")
    expect(field).to_be_focused()
    expect(field).to_have_accessible_description(re.compile("1000000"))
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill("10")
    expect(page.get_by_role("alert")).to_be_hidden()
    person.was_refused("400")


def test_of_several_things_to_mend_each_stays_marked_until_it_is_mended(enter: Enter) -> None:
    person = enter()
    page = person.page
    person.goes("new")
    page.get_by_text("Limits and late answers").click()
    longest, ticks = page.get_by_label("maximum text"), page.get_by_label("maximum ticks")
    longest.fill("1000000")
    page.get_by_text("Limits and late answers").click()
    ticks.fill("2000000")
    person.presses("Start")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("2 things to mend")
    expect(longest).to_be_focused()
    for wrong, most in ((longest, "20000"), (ticks, "1000000")):
        expect(wrong).to_have_attribute("aria-invalid", "true")
        expect(wrong).to_have_accessible_description(re.compile(most))
    longest.fill("2000")
    expect(longest).not_to_have_attribute("aria-invalid", "true")
    expect(ticks).to_have_attribute("aria-invalid", "true")
    expect(alert).to_contain_text("Maximum ticks")
    ticks.fill("4")
    expect(alert).to_be_hidden()
    person.presses("Start")
    person.stands("ended")
    person.was_refused("400")


def test_what_was_written_for_a_scenario_is_there_when_somebody_comes_back_to_it(enter: Enter) -> None:
    person = enter()
    page = person.page
    person.goes("new")
    page.get_by_label("rounds").fill("7")
    page.get_by_role("radio", name="Fishery").check()
    expect(page.get_by_label("months")).to_be_visible()
    page.get_by_role("radio", name="Public goods").check()
    expect(page.get_by_label("rounds")).to_have_value("7")


def test_a_simulation_is_stopped_after_a_question_and_the_focus_stays_on_the_page(
    enter: Enter, endpoint: Endpoint
) -> None:
    person = enter()
    page = person.page
    person.goes(f"run/{endpoint.make(**_goods('unwanted'), start=False)}")
    person.presses("Stop")
    dialog = page.get_by_role("dialog", name="Stop the simulation")
    dialog.get_by_role("button", name="Keep it going").click()
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    person.presses("Stop")
    dialog.get_by_role("button", name="Stop it").click()
    person.stands("stopped")
    expect(page.get_by_role("heading", level=1)).to_be_focused()


def test_the_focus_stays_on_the_page_also_where_the_simulation_ends_before_the_dialog_closes(
    enter: Enter, endpoint: Endpoint
) -> None:
    person = enter()
    page = person.page
    sim = endpoint.make(**_goods("unwanted-too"), start=False)

    def answers_when_it_has_stopped(route: Route) -> None:
        answer = route.fetch()
        deadline = time.monotonic() + WAIT_MS / 1000
        while endpoint.status(sim) != "stopped" and time.monotonic() < deadline:
            pass  # Each look asks the application.
        route.fulfill(response=answer)

    page.route(f"**/v1/simulations/{sim}:stop", answers_when_it_has_stopped)
    person.goes(f"run/{sim}")
    person.presses("Stop")
    page.get_by_role("dialog", name="Stop the simulation").get_by_role("button", name="Stop it").click()
    person.stands("stopped")
    expect(page.get_by_role("heading", level=1)).to_be_focused()


def test_the_form_and_its_json_are_the_same_simulation(enter: Enter) -> None:
    person = enter()
    page = person.page
    person.goes("new")
    page.get_by_text("As JSON").click()
    written = page.get_by_label("Simulation", exact=True)
    spec = json.loads(written.input_value())
    page.get_by_label("Name of agent agent-1").fill("zoe")
    expect(written).to_have_value(re.compile('"id": "zoe"'))
    written.fill('{"scenario": ')
    expect(page.get_by_text(re.compile("^This is no JSON yet"))).to_be_visible()
    person.presses("Start")
    expect(page.get_by_role("heading", name="New simulation")).to_be_visible()
    written.fill(json.dumps({**spec, "seed": 7, "agents": spec["agents"][:2]}))
    expect(page.get_by_label("seed", exact=True)).to_have_value("7")
    expect(page.get_by_label(re.compile("^Name of agent"))).to_have_count(2)
    page.get_by_label("As an experiment").check()
    written.fill('{"agents": {}}')
    expect(page.get_by_text("agents is a list, not {}.", exact=True)).to_be_visible()
    written.fill('{"agents": [{"id": 5}]}')
    expect(page.get_by_text("agents.0.id is a text, not 5.", exact=True)).to_be_visible()
    written.fill('{"population": {"kind": "mix"}, "agents": [{"id": "x"}, {}]}')
    page.get_by_label("Who decides for x").select_option("human")
    expect(written).to_have_value(re.compile('"kind": "human"'))
    expect(page.get_by_label(re.compile("^Name of agent"))).to_have_count(2)


def test_an_experiment_is_started_from_the_form_and_shows_means_with_intervals(enter: Enter) -> None:
    person = enter()
    page = person.page
    person.goes("experiments")
    page.get_by_role("link", name="New experiment").click()
    page.get_by_label("rounds").fill("3")
    page.get_by_label("Who decides for agent-2").select_option("model:voice")
    page.get_by_label("name", exact=True).fill("how-strong")
    person.presses("Vary something")
    page.get_by_label("What is varied").fill("agents.1.brain.steering.boost.strength")
    page.get_by_label("Values").fill("0, 1.5")
    page.get_by_label("Seeds").fill("0-2")
    expect(page.get_by_text("6 simulations", exact=True)).to_be_visible()
    person.presses("Start")
    expect(page.get_by_role("heading", level=1)).to_have_text("how-strong")
    expect(page.get_by_text("6 ended of 6")).to_be_visible()
    drawing = page.get_by_role(
        "img", name=re.compile("^mean contribution; strength 0: .* to .*, 3 seeds; strength 1.5: ")
    )
    expect(drawing).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("^1.5 3 of 3, simulations of strength 1.5 "))).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    person.presses("3 of 3, simulations of strength 1.5")
    page.get_by_role("link", name="seed 2").click()
    person.stands("ended")
    person.reads("Steered with 1.5, I look where I seldom look.")
    page.get_by_role("link", name=re.compile("^exp-")).click()
    page.get_by_role("link", name="Another like it").click()
    expect(page.get_by_role("heading", name="New experiment")).to_be_visible()
    expect(page.get_by_label("rounds")).to_have_value("3")
    expect(page.get_by_label("Values")).to_have_value("0, 1.5")
    expect(page.get_by_label("Seeds")).to_have_value("0-2")
    page.get_by_role("navigation").get_by_role("link", name="Experiments").click()
    expect(page.get_by_role("row", name=re.compile("how-strong.*6 ended of 6"))).to_be_visible()


def test_an_experiment_that_is_stopped_keeps_what_has_ended(enter: Enter, endpoint: Endpoint) -> None:
    person = enter()
    page = person.page
    agents = [{"id": "me", "brain": {"kind": "human"}}, _scripted("bob", "cooperator")]
    grid = {"agents.0.brain": [{"kind": "human"}, {"kind": "scripted", "policy": "cooperator"}]}
    person.goes(f"experiments/{endpoint.tries(name='asks', simulation=_goods('asked', agents=agents), grid=grid)}")
    expect(page.get_by_text("1 ended, 1 waiting of 2")).to_be_visible()
    person.presses("Stop")
    page.get_by_role("dialog", name="Stop the experiment").get_by_role("button", name="Stop it").click()
    expect(page.get_by_text("1 ended, 1 stopped of 2")).to_be_visible()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_be_focused()


def test_the_focus_stays_where_somebody_has_put_it_before_the_last_simulation_stops(
    enter: Enter, endpoint: Endpoint
) -> None:
    person = enter()
    page = person.page
    agents = [{"id": "me", "brain": {"kind": "human"}}, _scripted("bob", "cooperator")]
    exp = endpoint.tries(name="slow-to-stop", simulation=_goods("asked", agents=agents))
    person.goes(f"experiments/{exp}")
    expect(page.get_by_text("1 waiting of 1")).to_be_visible()
    held = person.holds_back(f"**/v1/experiments/{exp}")
    person.presses("Stop")
    page.get_by_role("dialog", name="Stop the experiment").get_by_role("button", name="Stop it").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    members = page.get_by_role("button", name=re.compile("simulations of"))
    members.focus()
    held.let_through()
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    expect(members).to_be_focused()


def test_experiments_are_asked_for_while_they_are_seen_and_seldom_while_they_wait(enter: Enter) -> None:
    person = enter()
    page = person.page
    page.clock.install()
    rows = [{"id": f"exp-{number}", "name": "many", "simulations": 1} for number in range(100)]
    asked: list[str] = []

    def detail(route: Route) -> None:
        name = route.request.url.rsplit("/", 1)[1]
        asked.append(name)
        states = {"running": 1} if name == "exp-0" else {"waiting": 1}
        route.fulfill(json={**rows[0], "id": name, "states": states, "points": []})

    page.route("**/v1/experiments?*", lambda route: route.fulfill(json={"data": rows, "next": None}))
    page.route("**/v1/experiments/*", detail)
    person.goes("experiments")
    expect(page.get_by_role("row", name="exp-0 1 running of 1")).to_be_visible()
    expect(page.get_by_role("row", name="exp-1 1 waiting of 1")).to_be_visible()
    with page.expect_request("**/v1/experiments/exp-0"):
        page.clock.run_for(5_000)
    assert asked.count("exp-1") == 1
    assert "exp-99" not in asked
    with page.expect_request("**/v1/experiments/exp-99"):
        page.get_by_text("exp-99").scroll_into_view_if_needed()


def test_a_list_waits_for_a_late_answer_and_shows_it(enter: Enter, endpoint: Endpoint) -> None:
    person = enter()
    page = person.page
    page.clock.install()
    endpoint.make(**_goods("late"), start=False)
    asked: list[Route] = []

    def all_but_the_first_are_late(route: Route) -> None:
        asked.append(route)
        if len(asked) == 1:
            route.continue_()

    page.route("**/v1/simulations?*", all_but_the_first_are_late)
    person.goes("")
    expect(page.get_by_role("link", name="late", exact=True)).to_be_visible()
    with page.expect_request("**/v1/simulations?*"):
        page.clock.run_for(3_000)
    page.clock.run_for(20_000)
    assert len(asked) == 2
    asked[1].fulfill(json={"data": [], "next": None})
    expect(page.get_by_role("link", name="late", exact=True)).to_be_hidden()


def test_a_chat_streams_the_steered_model_beside_the_plain_one(enter: Enter) -> None:
    person = enter()
    page = person.page
    person.goes("chat")
    page.get_by_label("Steering strength", exact=True).fill("1.2")
    page.get_by_label("beside the plain model").check()
    page.get_by_label("Your message").fill("What do you see?")
    page.keyboard.press("Enter")
    talk = page.get_by_role("log", name="Conversation")
    expect(talk).to_contain_text("I speak as I always do.")
    expect(talk).to_contain_text("Steered with 1.2, I look where I seldom look.")
    expect(talk.get_by_text("tokens")).to_have_count(2)


def test_a_team_answers_in_the_chat_and_can_be_watched_at_it(enter: Enter) -> None:
    person = enter()
    page = person.page
    person.goes("chat?model=team%3Apair")
    page.get_by_label("Your message").fill("What makes a good neighbour?")
    person.presses("Send")
    talk = page.get_by_role("log", name="Conversation")
    expect(talk).to_contain_text("I speak as I always do.")
    talk.get_by_role("link", name="watch").click()
    person.stands("ended")
    expect(page.get_by_role("button", name=re.compile("^writer, last"))).to_be_visible()


def _until_ended(endpoint: Endpoint, sim: str) -> None:
    with endpoint.http.stream(
        "GET", f"/v1/simulations/{sim}/events", headers={"Accept": "text/event-stream"}
    ) as events:
        assert any(line == "event: end" for line in events.iter_lines())


def test_a_reader_that_was_cut_off_goes_on_behind_the_last_event(enter: Enter, endpoint: Endpoint) -> None:
    person = enter()
    sim = endpoint.make(**_goods("cut"))
    _until_ended(endpoint, sim)
    lines = endpoint.http.get(f"/v1/simulations/{sim}/events").text.splitlines()[:10]
    part = "".join(f"id: {number}\ndata: {line}\n\n" for number, line in enumerate(lines, 1))
    came_with: list[str | None] = []

    def cut(route: Route) -> None:
        came_with.append(route.request.headers.get("last-event-id"))
        if len(came_with) == 1:
            route.fulfill(content_type="text/event-stream", body=part + "id: 11\ndata: {")
        elif len(came_with) == 2:
            route.abort()
        elif len(came_with) == 3:
            route.fulfill(content_type="text/event-stream", body='event: error\ndata: {"error": {"message": "no"}}\n\n')
        else:
            route.continue_()

    person.page.route("**/events", cut)
    person.goes(f"run/{sim}")
    person.is_at(6, 6)
    assert came_with == [None, "10", "10", "10"]
    expect(person.page.get_by_role("region", name=re.compile("^Tick"))).to_have_count(6)
    expect(person.page.get_by_role("region", name="Tick 1").get_by_role("article")).to_have_count(3)
    assert [said for said in person.complaints if "ERR_FAILED" not in said] == []
    person.complaints.clear()


def test_everything_is_within_reach_of_the_keyboard(enter: Enter, endpoint: Endpoint) -> None:
    person = enter()
    page, keyboard = person.page, person.page.keyboard
    sim = endpoint.make(**_goods("keys"), start=False)
    person.goes("")
    expect(page.get_by_role("table")).to_be_visible()
    keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    _tab_to(page, "link", "keys")
    keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"#/run/{sim}$"))
    person.stands("created")
    keyboard.press("s")
    person.is_at(1, 6)
    person.stands("paused")
    keyboard.press("[")
    expect(page.get_by_text("Looking at tick 0")).to_be_visible()
    keyboard.press("e")
    _tab_to(page, "button", "Fork")
    keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Fork")).to_be_visible()
    keyboard.press("Escape")
    expect(page.get_by_role("button", name="Fork")).to_be_focused()
    _tab_to(page, "button", "ann, last: 4")
    keyboard.press("Enter")
    expect(page.get_by_role("heading", name="ann")).to_be_visible()
    keyboard.press("p")
    person.stands("ended")
    keyboard.press("x")
    expect(page.get_by_role("heading", name="Experiments", exact=True)).to_be_visible()
    keyboard.press("n")
    expect(page.get_by_role("heading", name="New simulation")).to_be_visible()
    _tab_to(page, "button", "Start")
    keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#/run/sim-"))


def _tab_to(page: Page, role: Any, name: str) -> None:
    wanted = page.get_by_role(role, name=name, exact=True).first
    expect(wanted).to_be_visible()
    for _ in range(120):
        if wanted.evaluate("node => node === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {name}")


@pytest.fixture(scope="module")
def views(endpoint: Endpoint) -> dict[str, str]:
    """Every view, by what stands behind the `#` and what is there when it is complete."""
    ended = endpoint.make(**_goods("seen"))
    other = endpoint.make(**_goods("seen-again", seed=1))
    talk = {"scenario": "fishery", "params": {"months": 3}, "max_ticks": 3, "name": "talk"}
    talk_agents = [_scripted("ann", "sustainable"), _scripted("bob", "covenant"), _llm("eve", 1.0)]
    person = [{"id": "me", "brain": {"kind": "human"}}, _scripted("bob", "cooperator")]
    varied = {"agents.1.brain.steering.boost.strength": [0, 1], "params.punishment": [False, True]}
    return {
        "": "table",
        "new": ".settings",
        f"run/{ended}": ".chart",
        f"run/{endpoint.make(**talk, agents=talk_agents)}": ".link",
        f"run/{endpoint.make(**_goods('asks', agents=person))}": ".seat",
        f"run/{endpoint.make(**_goods('waits'), start=False)}": ".head",
        f"compare?a={ended}&b={other}": ".numbers",
        "compare": ".pair",
        "experiments": ".states",
        f"experiments/{endpoint.tries(name='seen', simulation=_goods('one'), seeds=[0, 1], grid=varied)}": ".intervals",
        "new?experiment": ".plan",
        "chat": ".conversation",
        "nowhere": "h1",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_breaks_a_rule_of_accessibility(enter: Enter, views: dict[str, str], scheme: str) -> None:
    person = enter(color_scheme=scheme)
    for place, complete in views.items():
        person.goes(place)
        person.page.locator(complete).first.wait_for(state="attached")
        if place.startswith("run/") and complete == ".chart":
            person.page.get_by_role("button", name=re.compile("^bob, steered")).click()
            person.page.get_by_role("region", name="Memory of bob").get_by_role("listitem").first.wait_for()
        if place == "new":
            _opens_everything(person.page)
        _is_accessible(person.page, f"{place} ({scheme})")
    person.page.keyboard.press("?")
    person.page.get_by_role("dialog").wait_for()
    _is_accessible(person.page, f"help ({scheme})")


def _opens_everything(page: Page) -> None:
    for fold in page.locator(".fold > summary").all():
        fold.click()
    page.get_by_label("More agents").select_option("mix")
    page.get_by_role("button", name="More of group 1").click()
    page.get_by_role("button", name="Add to workflow").click()


def _is_accessible(page: Page, where: str) -> None:
    found = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]})
    assert found.violations_count == 0, f"{where}: {found.generate_report()}"


def test_no_view_is_wider_than_a_phones_screen_nor_the_list_than_a_tablets(enter: Enter, views: dict[str, str]) -> None:
    person = enter(viewport=PHONE, has_touch=True)
    for place, complete in views.items():
        person.goes(place)
        person.page.locator(complete).first.wait_for(state="attached")
        if place == "new":
            _opens_everything(person.page)
        assert person.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], place
        if place.startswith("run/"):
            for pane in ("Agents", "Metrics", "Transcript"):
                person.presses(pane)
                assert person.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], (place, pane)
    person.page.set_viewport_size(TABLET)
    person.goes("")
    person.page.get_by_role("row", name=re.compile("asks.*waiting for a person")).first.wait_for()
    assert person.page.evaluate("document.documentElement.scrollWidth") <= TABLET["width"]


def test_the_theme_can_be_chosen_and_is_kept(enter: Enter) -> None:
    person = enter(color_scheme="light")
    page = person.page
    person.goes("")
    page.get_by_role("button", name=re.compile("^Theme: the system's")).click()
    page.get_by_role("button", name=re.compile("^Theme: light")).click()
    page.reload()
    expect(page.get_by_role("button", name=re.compile("^Theme: dark"))).to_be_visible()
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    assert page.evaluate(paper) == "rgb(19, 22, 25)"
    page.get_by_role("button", name=re.compile("^Theme: dark")).click()
    assert page.evaluate(paper) == "rgb(247, 246, 243)"
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(paper) == "rgb(19, 22, 25)"
