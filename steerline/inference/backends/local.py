"""A Transformers model in this process. Rows of one batch may differ in steering, sampling, stop texts and length."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from steerline.config.inference import LocalBackendSpec
from steerline.config.steering import SteeringSpec
from steerline.errors import InferenceError, SteeringError
from steerline.evaluation.model_facts import BRANCHING_FAMILIES, context_length
from steerline.inference.decoding import Decoder, Row
from steerline.inference.prefixes import Prefixes
from steerline.inference.prompts import PromptEncoder
from steerline.inference.request import BackendLimits, Failure, GenRequest, GenResult, Usage
from steerline.inference.row_steering import RowSteering, acting_part
from steerline.models.anatomy import anatomy, transformers_model
from steerline.models.load import LoadedModel, load_model


class LocalBackend:
    """Answers in a thread of its own, one batch at a time, so that the event loop stays free.

    An unsteered row has the logits of the plain model in the same batch, bit for bit; what its neighbours are changes
    them by rounding at most. A response schema is not enforced.

    Args:
        loaded: a causal language model, on its device.
        spec: limits of a batch; its other fields are not read.

    Raises:
        InferenceError: the model is no causal language model of a family whose cache was proven.
        AnatomyError: its sites cannot be found.
    """

    def __init__(self, loaded: LoadedModel, spec: LocalBackendSpec) -> None:
        _, model = transformers_model(loaded.model)
        family = model.config.get_text_config().model_type
        if family not in BRANCHING_FAMILIES or not model.can_generate():
            raise InferenceError(
                "this model cannot write text here",
                got=f"{type(model).__name__} ({family})",
                expected=f"a causal language model of the families {', '.join(sorted(BRANCHING_FAMILIES))}",
                fix="serve it elsewhere and name the server with `kind: openai`",
            )
        sites = anatomy(loaded.model)
        self._limits = BackendLimits(spec.max_batch, spec.max_batch_tokens)
        self._context = context_length(model)
        self._encoder = PromptEncoder(loaded.tokenizer)
        self._steering = partial(RowSteering, model, sites)
        self._checked: set[SteeringSpec] = set()
        self._decoder = Decoder(model, loaded.tokenizer, self._steering, _ends(loaded), Prefixes())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="steerline-local-model")

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

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One answer for each request. A prompt too long, or a steering that does not fit the model, is a failure."""
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._generate, requests, cancelled)
        finally:
            # The thread of a batch that nobody waits for any more ends after the token that it is at.
            cancelled.set()

    async def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False)

    def _generate(self, requests: Sequence[GenRequest], cancelled: threading.Event) -> list[GenResult]:
        results: dict[int, GenResult] = {}
        rows: dict[int, Row] = {}
        for index, request in enumerate(requests):
            row = self._row(request)
            if isinstance(row, Failure):
                results[index] = GenResult.failed(row)
            else:
                rows[index] = row
        for batch in self._batches(rows):
            started = time.monotonic()
            self._decoder.decode([rows[index] for index in batch], cancelled.is_set)
            seconds = time.monotonic() - started
            results |= {index: _result(rows[index], seconds) for index in batch}
        return [results[index] for index in range(len(requests))]

    def _row(self, request: GenRequest) -> Row | Failure:
        try:
            prompt = self._encoder.encode(request)
            steering = acting_part(request.steering)
            if steering not in self._checked:
                with self._steering([steering]):
                    self._checked.add(steering)
        except (InferenceError, SteeringError) as error:
            return Failure("refused", error.what if error.got is None else f"{error.what}: {error.got}")
        if not prompt:
            return Failure("refused", "the prompt is empty, and the tokenizer has no beginning-of-text token")
        room = request.sampling.max_tokens if self._context is None else self._context - len(prompt)
        if room < 1:
            return Failure("too_long", f"{len(prompt)} tokens for a context of {self._context}")
        return Row(
            prompt,
            request.sampling,
            min(room, request.sampling.max_tokens),
            request.seed,
            acting_part(request.steering),
        )

    def _batches(self, rows: Mapping[int, Row]) -> Iterator[list[int]]:
        """Neighbours together, as the client sorted them, within `max_batch_tokens` at their final length."""
        batch: list[int] = []
        width = 0
        for index, row in rows.items():
            length = len(row.prompt) + row.max_tokens
            if batch and (len(batch) + 1) * max(width, length) > self._limits.max_batch_tokens:
                yield batch
                batch, width = [], 0
            batch.append(index)
            width = max(width, length)
        if batch:
            yield batch


def _result(row: Row, seconds: float) -> GenResult:
    usage = Usage(len(row.prompt), len(row.new), row.cached_tokens)
    # A row without an end is of a batch that nobody waits for any more.
    return GenResult(row.text, row.finish or "length", usage, seconds)


def _ends(loaded: LoadedModel) -> frozenset[int]:
    """The tokens that end a text, by the model's generation config and by the tokenizer."""
    _, model = transformers_model(loaded.model)
    own = None if model.generation_config is None else model.generation_config.eos_token_id
    listed = own if isinstance(own, list) else [own]
    return frozenset(token for token in (*listed, loaded.tokenizer.eos_token_id) if token is not None)
