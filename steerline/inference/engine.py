"""Continuous batching: rows join the running batch after any token and leave at once, each with a steering and an
adapter of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from steerline.errors import SteeringError
from steerline.evaluation.model_facts import device_of
from steerline.inference import openmp
from steerline.inference.attention import PagedPass, Span, over_pages
from steerline.inference.load import Load
from steerline.inference.pages import Pages
from steerline.inference.request import Failure
from steerline.inference.row import Row
from steerline.inference.row_adapters import RowAdapters, Tokens, tokens_of
from steerline.inference.row_steering import RowSteering, RowStrengths, acting, said
from steerline.inference.sampling import choose, logprob
from steerline.inference.schedule import EngineLimits, Part, Schedule
from steerline.models.anatomy import Anatomy, transformers_model
from steerline.models.load import LoadedModel


class Engine:
    """Writes the rows that it is given, in a thread of its own which works while there are any.

    A pass takes the last token of each running row and a chunk of the prompts of those that join, as [N, 1] tokens
    which attend to the pages of their rows: nothing is padded, and nothing is copied when a row comes or goes. Rows
    join in the order in which they came. When the pages run out, the youngest row gives up its own and begins again.

    Args:
        loaded: a causal language model, on its device.
        anatomy: its sites.
        ends: tokens that end a text.
        limits: how much at once.
    """

    def __init__(self, loaded: LoadedModel, anatomy: Anatomy, ends: frozenset[int], limits: EngineLimits) -> None:
        assert anatomy.logits is not None, "a causal language model has a head"
        _, self._model = transformers_model(loaded.model)
        self._tokenizer = loaded.tokenizer
        self._head = anatomy.logits.module
        self._logit_rule = anatomy.logit_rule
        self._device = device_of(self._model)
        self._ends = ends
        self._limits = limits
        self._pages = Pages(anatomy.num_layers, limits.tokens)
        self._schedule = Schedule(self._pages, limits)
        self._steering = RowSteering(self._model, anatomy)
        self._adapters = RowAdapters(self._model)
        self._last: tuple[list[Part], RowStrengths, Tokens] = ([], [], [])
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="steerline-engine")
        self._lock = threading.Lock()  # of what follows, and of reports: after `cancel` none comes
        self._waiting: deque[Row] = deque()
        self._works = False
        self._fault: BaseException | None = None
        self._row_s = 1.0  # how long rows take, of late

    @property
    def current_load(self) -> Load:
        """As it is now, seen from any thread; during a pass, parts of it may be of a moment later."""
        rows, free = list(self._schedule.rows), self._pages.num_free
        used = len({page for row in rows for page in list(row.pages)})
        return Load(len(rows), len(self._waiting), used, max(0, len(self._pages) - used - free), free)

    def submit(self, rows: Sequence[Row]) -> None:
        """Lets rows wait for their turn. Those above the limit fail at once, as busy.

        Raises:
            BaseException: what ended the engine's work earlier, a fault in the code.
        """
        with self._lock:
            if self._fault is not None:
                raise self._fault
            now = time.monotonic()
            for row in rows:
                row.submitted = now
                if len(self._waiting) < self._limits.waiting:
                    self._waiting.append(row)
                else:
                    row.fail(self._busy(), now)
            if not self._works:
                self._works = True
                self._thread.submit(self._work).add_done_callback(self._ended)

    def cancel(self, rows: Sequence[Row]) -> None:
        """Nobody wants these any more: nothing is reported, and their places are free after the pass under way."""
        with self._lock:
            for row in rows:
                row.cancelled = True

    def close(self) -> None:
        """Ends the thread after the pass under way; nothing is reported any more."""
        with self._lock:
            for row in (*self._waiting, *self._schedule.rows):
                row.cancelled = True
        self._thread.shutdown(wait=False)

    def _work(self) -> None:
        try:
            with torch.inference_mode():
                while self._has_rows():
                    self._join()
                    parts, back = self._schedule.plan()
                    with self._lock:
                        self._waiting.extendleft(reversed(back))
                    if parts:
                        self._pass(parts)
        finally:
            openmp.release()

    def _ended(self, work: Future[None]) -> None:
        """Tells all rows of a fault."""
        fault = work.exception()
        if fault is None:
            return
        with self._lock:
            self._fault = fault
            for row in (*self._schedule.rows, *self._waiting):
                if not row.cancelled:
                    row.report(fault)

    def _has_rows(self) -> bool:
        with self._lock:
            self._waiting = deque(row for row in self._waiting if not row.cancelled)
            gone = [row for row in self._schedule.rows if row.cancelled]
            self._works = bool(self._waiting or len(self._schedule.rows) > len(gone))
            self._leave(gone)
            if not self._works:
                self._steer()
            return self._works

    def _join(self) -> None:
        """Lets those who wait join, the first first."""
        while self._waiting and self._can_act(self._waiting[0]):
            row = self._waiting[0]
            if not self._schedule.join(row):
                return
            with self._lock:
                self._waiting.popleft()
            self._steer()

    def _can_act(self, row: Row) -> bool:
        """Whether a row's steering fits the model; where not, the row fails."""
        try:
            self._steering.check(row.steering)
        except SteeringError as error:
            with self._lock:
                self._waiting.popleft()
                if not row.cancelled:
                    row.fail(Failure("refused", said(error)), time.monotonic())
            return False
        return True

    def _pass(self, parts: Sequence[Part]) -> None:
        """Computes parts of rows, and adds a token to each row that is whole."""
        whole = [part.row for part in parts if part.row.computed + part.length == part.row.length]
        logits = self._forward(parts)
        self._schedule.computed(parts)
        logits, whole = self._finite(logits, whole)
        tokens = choose(logits, whole) if whole else []
        for index, (row, token) in enumerate(zip(whole, tokens, strict=True)):
            wanted = row.top_logprobs
            told = None if wanted is None else logprob(logits[index], token, wanted, self._tokenizer)
            row.add(token, told, self._ends)
        now = time.monotonic()
        ended = [row for row in whole if row.finish is not None]
        self._leave(ended)
        for row in ended:
            self._row_s += 0.1 * (now - row.submitted - self._row_s)
        with self._lock:
            for row in whole:
                piece = None if row.cancelled else row.piece(now)
                if piece is not None:
                    row.report(piece)

    def _finite(self, logits: Tensor, rows: list[Row]) -> tuple[Tensor, list[Row]]:
        """Logits [R, V] by which a token can be chosen, and their rows; the others, which are steered too far, fail."""
        if not rows:
            return logits, rows
        finite = logits.amax(dim=-1).isfinite()
        if finite.all():
            return logits, rows
        failed = [row for row, is_finite in zip(rows, finite.tolist(), strict=True) if not is_finite]
        self._leave(failed)
        what = "the model's numbers are finite no more (steer it less, if it is steered)"
        with self._lock:
            for row in failed:
                if not row.cancelled:
                    row.fail(Failure("refused", what), time.monotonic(), began=True)
        return logits[finite], [row for row in rows if row not in failed]

    def _forward(self, parts: Sequence[Part]) -> Tensor:
        """Logits [R, V] after the parts that end with their row's last token, in order."""
        spans = [Span(row.computed, length, row.pages) for row, length in parts]
        paged = PagedPass(self._pages, spans, self._device)
        ids = [token for row, length in parts for token in row.tokens(row.computed, row.computed + length)]
        strengths, adapted = self._acting(parts)
        with over_pages(self._model), acting(strengths), self._adapters.acting(adapted):
            hidden: Tensor = self._model.base_model(
                input_ids=torch.tensor(ids, device=self._device)[:, None],
                position_ids=paged.positions,
                use_cache=False,
                paged=paged,
            ).last_hidden_state
        ends, place = [], -1
        for row, length in parts:
            place += length
            if row.computed + length == row.length:
                ends.append(place)
        if len(ends) < len(ids):
            hidden = hidden[torch.tensor(ends, dtype=torch.long, device=self._device)]
        return self._logit_rule(self._head(hidden))[:, 0] if ends else hidden[:, 0]

    def _acting(self, parts: Sequence[Part]) -> tuple[RowStrengths, Tokens]:
        """What acts on which tokens of a pass."""
        if parts != self._last[0]:
            lengths = [length for _, length in parts]
            strengths = self._steering.strengths([row.steering for row, _ in parts], lengths)
            adapted = tokens_of([row.adapter for row, _ in parts], lengths, self._device)
            self._last = list(parts), strengths, adapted
        return self._last[1:]

    def _leave(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._schedule.leave(row)
        if rows:
            self._steer()

    def _steer(self) -> None:
        """Attaches what the running rows need."""
        self._last = [], [], []
        self._steering.hold({row.steering for row in self._schedule.rows})
        self._adapters.hold({row.adapter for row in self._schedule.rows if row.adapter is not None})

    def _busy(self) -> Failure:
        rounds = 1 + len(self._waiting) / self._limits.rows
        what = f"{len(self._waiting)} requests wait for this model already"
        return Failure("busy", what, retry_after_s=rounds * self._row_s)
