"""People's seats: what is asked, and what they answer."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as PathParam

from services.http.errors import ApiError, responses
from services.simulation.desk import Desk, Sim
from services.simulation.forms import AnswerForm, AnswerView, QuestionView
from services.simulation.listing import Reader, Writer
from steerline.simulation.humans import answer as post_answer
from steerline.simulation.humans import open_questions, questions
from steerline.simulation.store.base import Hosted

Question = Annotated[str, PathParam(pattern=r"^\d+\.\d+\.[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}(/review)?$")]


def routes(desk: Desk) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/v1/simulations/{sim}/questions", responses=responses(404, 503), summary="What people are asked now")
    async def asked(sim: Sim, principal: Reader) -> list[QuestionView]:  # noqa: ARG001
        def act(_: Hosted) -> list[QuestionView]:
            return [QuestionView(**asdict(question)) for question in open_questions(desk.store, sim)]

        return await desk.act(sim, act, wake=False)

    @router.post(
        "/v1/simulations/{sim}/questions/{question:path}:answer",
        responses=responses(404, 409, 503),
        summary="Answer a question; the first answer counts",
    )
    async def answered(sim: Sim, question: Question, form: AnswerForm, principal: Writer) -> AnswerView:  # noqa: ARG001
        await answer(desk, sim, question, form.text)
        return AnswerView(question=question, simulation=await asyncio.to_thread(desk.view, sim))

    return router


async def answer(desk: Desk, sim: str, question: str, text: str) -> None:
    """Post a person's answer, and have the simulation go on.

    Raises:
        ApiError: 404; nothing of that name was asked. 409; it was answered, or is over.
    """

    def act(_: Hosted) -> None:
        store = desk.store
        if question not in {asked.id for asked in questions(store, sim)}:
            raise ApiError(404, "question_not_found", f"there is no question {question}", param="question")
        is_open = question in {asked.id for asked in open_questions(store, sim)}
        if not is_open or not post_answer(store, sim, question, text):
            raise ApiError(409, "question_closed", f"question {question} has its answer, or is over", param="question")
        store.nudge(sim)

    await desk.act(sim, act)
