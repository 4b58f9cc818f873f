"""A Transformers model in this process. Rows of a batch may differ in steering, adapter, sampling, stops and length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from steerline.config.inference import LocalBackendSpec
from steerline.errors import InferenceError, SteeringError
from steerline.evaluation.model_facts import BRANCHING_FAMILIES, context_length
from steerline.inference import openmp
from steerline.inference.constraint import Schemas
from steerline.inference.engine import Engine
from steerline.inference.linear import pack
from steerline.inference.load import HasLoad, Load
from steerline.inference.prompts import PromptEncoder
from steerline.inference.request import BackendLimits, Delta, Failure, GenRequest, GenResult
from steerline.inference.row import Row
from steerline.inference.row_steering import acting_part, said
from steerline.inference.schedule import EngineLimits
from steerline.inference.text import Text
from steerline.models.adapter import Adapter
from steerline.models.anatomy import anatomy, transformers_model
from steerline.models.load import LoadedModel, load_model

_CALLS = 4  # at once, so that rows of the next ones join as rows of the first end
Piece = Delta | BaseException
Report = Callable[[Piece], None]


class LocalBackend(HasLoad):
    """Answers by an engine in a thread of its own: the rows of all calls and streams share its running batch.

    An unsteered row has the logits of the plain model in the same batch, bit for bit; what its neighbours are changes
    them by rounding at most.

    Args:
        loaded: a causal language model, on its device. On a CPU its weights are laid out anew (`pack`): from then on it
            answers, here and in later backends, and is good for nothing else.
        spec: limits of a batch; its other fields are not read.

    Raises:
        InferenceError: the model is no causal language model of a family whose cache was proven.
        AnatomyError: its sites cannot be found.
    """

    def __init__(self, loaded: LoadedModel, spec: LocalBackendSpec) -> None:
        _, model = transformers_model(loaded.model)
        self.model = model
        family = model.config.get_text_config().model_type
        if family not in BRANCHING_FAMILIES or not model.can_generate():
            raise InferenceError(
                "this model cannot write text here",
                got=f"{type(model).__name__} ({family})",
                expected=f"a causal language model of the families {', '.join(sorted(BRANCHING_FAMILIES))}",
                fix="serve it elsewhere and name the server with `kind: openai`",
            )
        ends = _ends(loaded)
        self._limits = BackendLimits(spec.max_batch, spec.max_batch_tokens, in_flight=_CALLS)
        self._context = context_length(model)
        self._tokenizer = loaded.tokenizer
        self._encoder = PromptEncoder(loaded.tokenizer)
        self._schemas = Schemas(loaded.tokenizer, ends)
        limits = EngineLimits(spec.max_batch, spec.max_batch_tokens, spec.max_waiting)
        self._engine = Engine(loaded, anatomy(loaded.model), ends, limits)
        pack(model)
        openmp.release()
        # Prompts are encoded beside the engine, which goes on meanwhile.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="steerline-prompts")

    @classmethod
    def open(cls, spec: LocalBackendSpec) -> LocalBackend:
        """Loads the model, which takes a while.

        Raises:
            ModelError: it cannot be loaded.
            InferenceError: see above.
        """
        return cls(cls.load(spec), spec)

    @staticmethod
    def load(spec: LocalBackendSpec) -> LoadedModel:
        """Loads the weights alone, for several backends in turn.

        Raises:
            ModelError: they cannot be loaded.
        """
        loaded = load_model(spec.model, dtype=getattr(torch, spec.dtype))
        device = spec.device if spec.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        loaded.model.to(device)
        return loaded

    @property
    def limits(self) -> BackendLimits:
        """What `generate` takes."""
        return self._limits

    @property
    def current_load(self) -> Load:
        """Rows and pages of its engine, as they are now."""
        return self._engine.current_load

    async def generate(self, requests: Sequence[GenRequest], adapter: Adapter | None = None) -> list[GenResult]:
        """One answer for each request. A prompt too long, or a steering that does not fit the model, is a failure."""
        answers: list[asyncio.Future[Delta]] = [asyncio.get_running_loop().create_future() for _ in requests]
        rows = await self._rows(requests, [partial(_settle, answer) for answer in answers], adapter)
        self._engine.submit(rows)
        try:
            return [_result(piece) for piece in await asyncio.gather(*answers)]
        finally:
            self._engine.cancel(rows)

    async def stream(self, request: GenRequest, adapter: Adapter | None = None) -> AsyncGenerator[Delta, None]:
        """The pieces of one answer. Closing the generator frees its place after the token that it is at."""
        pieces: asyncio.Queue[Piece] = asyncio.Queue()
        rows = await self._rows([request], [pieces.put_nowait], adapter, streams=True)
        self._engine.submit(rows)
        try:
            while True:
                piece = await pieces.get()
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
                if piece.result is not None:
                    return
        finally:
            self._engine.cancel(rows)

    async def close(self) -> None:
        """Ends the threads."""
        self._thread.shutdown(wait=False)
        self._engine.close()

    async def _rows(
        self,
        requests: Sequence[GenRequest],
        reports: Sequence[Report],
        adapter: Adapter | None,
        streams: bool = False,
    ) -> list[Row]:
        """The rows of requests; those that cannot be answered are told so and left out."""
        loop = asyncio.get_running_loop()

        def encode() -> list[Row | Failure]:
            return [self._row(*asked, loop, adapter, streams) for asked in zip(requests, reports, strict=True)]

        made = await loop.run_in_executor(self._thread, encode)
        for row, report in zip(made, reports, strict=True):
            if isinstance(row, Failure):
                report(Delta("", (), GenResult.failed(row)))
        return [row for row in made if isinstance(row, Row)]

    def _row(
        self,
        request: GenRequest,
        report: Report,
        loop: asyncio.AbstractEventLoop,
        adapter: Adapter | None,
        streams: bool,
    ) -> Row | Failure:
        def to_loop(piece: Piece) -> None:
            loop.call_soon_threadsafe(report, piece)

        try:
            prompt = self._encoder.encode(request)
            steering = acting_part(request.steering)
            schema = request.response_schema
            constraint = None if schema is None else self._schemas.constraint(schema)
        except (InferenceError, SteeringError) as error:
            return Failure("refused", said(error))
        if not prompt:
            return Failure("refused", "the prompt is empty, and the tokenizer has no beginning-of-text token")
        room = request.sampling.max_tokens if self._context is None else self._context - len(prompt)
        if room < 1:
            return Failure("too_long", f"{len(prompt)} tokens for a context of {self._context}")
        return Row(
            prompt,
            request.sampling,
            min(room, request.sampling.max_tokens),
            Text(self._tokenizer, request.sampling.stop),
            to_loop,
            request.seed,
            steering,
            request.top_logprobs,
            constraint,
            streams,
            adapter,
        )


def _result(last: Delta) -> GenResult:
    assert last.result is not None, "a row that does not stream has one piece, the last"
    return last.result


def _settle(answer: asyncio.Future[Delta], piece: Piece) -> None:
    if answer.done():
        return  # its caller is gone
    if isinstance(piece, BaseException):
        answer.set_exception(piece)
    else:
        answer.set_result(piece)


def _ends(loaded: LoadedModel) -> frozenset[int]:
    """The tokens that end a text, by the model's generation config and by the tokenizer."""
    _, model = transformers_model(loaded.model)
    own = None if model.generation_config is None else model.generation_config.eos_token_id
    listed = own if isinstance(own, list) else [own]
    return frozenset(token for token in (*listed, loaded.tokenizer.eos_token_id) if token is not None)
