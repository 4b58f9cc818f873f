"""OpenAI's interface: chats, completions, models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from services.http.access import Principal, require
from services.http.errors import ApiError, responses
from services.http.limits import text_slot
from services.inference import chat, completions, played
from services.inference.asking import Head
from services.inference.catalogue import Catalogue
from services.inference.chat import Chat, StreamedChoice
from services.inference.completions import StreamedContinuation
from services.inference.disconnects import EventStream, while_connected
from services.inference.failures import STATUSES, error_of
from services.inference.played import AGENT, TEAM, Playing
from services.inference.port import ModelCard
from services.inference.requests import ChatCompletionRequest, CompletionRequest
from services.inference.responses import ChatCompletion, Completion, Model, ModelList, PlayedCompletion
from services.inference.streams import Account, Streamed, begun, deltas, paid_if_left, texts, to_the_end
from services.parts import Parts
from steerline.inference.request import GenRequest, GenResult

Caller = Annotated[Principal, Depends(require("inference", asks_models=True))]
Reader = Annotated[Principal, Depends(require("inference"))]
# Large schemas take a while to check. Apart from the threads that may wait for a store of simulations.
_CHECKER = ThreadPoolExecutor(1, thread_name_prefix="steerline-schemas")
_CLIENT_GONE = 499  # nginx's status for it; nobody is there to read it
_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}
_ALSO_STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer, whole or as events of pieces of it, of which the last is `[DONE]`."}
}


def router(parts: Parts) -> APIRouter:
    """The routes under `/v1`."""
    routes = APIRouter(prefix="/v1", tags=["inference"])
    catalogue = Catalogue(parts.inference, parts.spec)
    asked = _Asked(parts, catalogue)
    described = {200: {**_ALSO_STREAMED[200], "content": _STREAM}, **responses(*STATUSES)}

    @routes.post(
        "/chat/completions",
        summary="Answer a conversation",
        response_model=ChatCompletion | PlayedCompletion,
        responses=described,
        dependencies=[Depends(text_slot)],
    )
    async def chat_completions(body: ChatCompletionRequest, request: Request, caller: Caller) -> Response:
        if body.model.startswith((TEAM, AGENT)):
            return await asked.played(request, caller, body)
        read = partial(Chat.of, body, parts.spec.limits.most_tokens, caller.key_id)
        has_schemas = body.tools is not None or body.response_format is not None
        understood = await asyncio.get_running_loop().run_in_executor(_CHECKER, read) if has_schemas else read()
        head = await asked.head("chatcmpl", body.model)
        if not body.stream:
            return await asked.whole(request, caller, understood.requests, partial(chat.answer, head, understood))
        answers = [StreamedChoice(n, one, understood.calling) for n, one in enumerate(understood.requests)]
        return await asked.streamed(request, caller, body, understood.requests, answers, partial(chat.chunk, head))

    @routes.post(
        "/completions",
        summary="Continue a text",
        response_model=Completion,
        responses=described,
        dependencies=[Depends(text_slot)],
    )
    async def text_completions(body: CompletionRequest, request: Request, caller: Caller) -> Response:
        requests = completions.continuations(body, parts.spec.limits.most_tokens, caller.key_id)
        head = await asked.head("cmpl", body.model)
        if not body.stream:
            return await asked.whole(request, caller, requests, partial(completions.answer, head, requests))
        answers = [StreamedContinuation(n, one) for n, one in enumerate(requests)]
        return await asked.streamed(request, caller, body, requests, answers, partial(completions.piece, head))

    @routes.get("/models", summary="The models that requests may name", responses=responses(503))
    async def models(_caller: Reader) -> ModelList:
        return ModelList(data=[_model(card) for card in await catalogue.cards()])

    @routes.get("/models/{model_id:path}", summary="One model", responses=responses(404, 503))
    async def model(model_id: Annotated[str, Path(max_length=256)], _caller: Reader) -> Model:
        card = await catalogue.find(model_id)
        if card is None:
            known = ", ".join(card.id for card in await catalogue.cards())
            raise ApiError(404, "model_not_found", f"no such model; expected: {known}", param="model")
        return _model(card)

    return routes


class _Asked:
    """Asks the models for what a client waits for."""

    def __init__(self, parts: Parts, catalogue: Catalogue) -> None:
        self._inference = parts.inference
        self._playing = Playing(parts)
        self._catalogue = catalogue

    async def head(self, kind: str, model: str) -> Head:
        """Of an answer by this model."""
        card = await self._catalogue.find(model)
        return Head.new(kind, model, None if card is None else card.fingerprint)

    async def played(self, request: Request, caller: Principal, body: ChatCompletionRequest) -> Response:
        """The answer of a team or of an agent, whose simulation goes on if the client goes away.

        Raises:
            ApiError: it cannot be asked, or has no answer.
        """
        question = await self._playing.ask(body, caller)
        head = Head.new("chatcmpl", body.model, None)
        if body.stream:
            return EventStream(to_the_end(played.texts(head, question, body)))
        try:
            answer = await while_connected(request, played.whole(head, question))
        except ClientDisconnect:
            return Response(status_code=_CLIENT_GONE)
        return Response(answer.model_dump_json(), media_type="application/json")

    async def whole(
        self,
        request: Request,
        caller: Principal,
        requests: Sequence[GenRequest],
        answer: Callable[[Sequence[GenResult]], BaseModel],
    ) -> Response:
        """The answer in one piece.

        Raises:
            ApiError: there is none.
        """
        async with caller.hold(sum(one.cost for one in requests)):
            try:
                with paid_if_left(Account(caller, requests)):
                    results = await while_connected(request, self._inference.generate(requests))
            except ClientDisconnect:
                return Response(status_code=_CLIENT_GONE)
            usages = [result.usage for result in results]
            caller.spend(sum(usage.prompt_tokens + usage.completion_tokens for usage in usages))
        failure = next((result.failure for result in results if result.failure is not None), None)
        if failure is not None:
            raise error_of(failure)
        return Response(answer(results).model_dump_json(), media_type="application/json")

    async def streamed(
        self,
        request: Request,
        caller: Principal,
        body: ChatCompletionRequest | CompletionRequest,
        requests: Sequence[GenRequest],
        answers: Sequence[Streamed[Any]],
        piece: Callable[..., BaseModel],
    ) -> Response:
        """The answer while it is written.

        Raises:
            ApiError: it fails before it begins.
        """
        account = Account(caller, requests)
        options = body.stream_options
        with_usage = options is not None and bool(options.include_usage)
        async with AsyncExitStack() as held:
            await held.enter_async_context(caller.hold(sum(one.cost for one in requests)))
            # From here on it is written: what has no reader any more is closed and paid for, also before it is sent.
            written = await held.enter_async_context(aclosing(deltas(self._inference, account)))
            try:
                with paid_if_left(account):
                    source = await while_connected(request, begun(written, account))
            except ClientDisconnect:
                return Response(status_code=_CLIENT_GONE)
            held.callback(account.settle)
            shown = texts(source, answers, piece, account, with_usage=with_usage)
            return EventStream(to_the_end(shown), held.pop_all())


def _model(card: ModelCard) -> Model:
    return Model(id=card.id, created=card.created, owned_by=card.owned_by, about=card.about)
