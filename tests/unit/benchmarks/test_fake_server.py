"""The model server without a model that contestants of two interpreters ask."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import benchmarks.turns_elsewhere as elsewhere
from benchmarks.fake_server import RULES, Server, answer
from tests.unit.documentation import ROOT


def test_coroutines_and_threads_get_the_answers_to_their_prompts() -> None:
    async def ask() -> list[str]:
        with Server() as server:
            sent = server.send("c")
            asked = [server.ask(prompt) for prompt in ("a", "b")]
            return [*await asyncio.gather(*asked), await asyncio.to_thread(sent.result)]

    assert asyncio.run(ask()) == [answer(prompt) for prompt in ("a", "b", "c")]


def test_an_answer_depends_on_the_question_alone_whatever_a_framework_puts_around_it() -> None:
    question = elsewhere.question(3, 1, 7, 9.5)
    assert elsewhere.says(f"system: play.\n{question}\nassistant:") == elsewhere.says(question)
    assert RULES in question


def test_another_interpreter_needs_the_standard_library_alone() -> None:
    command = [sys.executable, "-S", "-E", "-m", "benchmarks.turns_elsewhere", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
