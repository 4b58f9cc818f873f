from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steerline.tracking.backend import MetricPoint
from steerline.tracking.delivery import MAX_POINTS, Backoff, Deliverer
from steerline.tracking.journal import Journal
from tests.unit.tracking.fake import RUN, Clock, FakeBackend


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path, RUN)
    yield journal
    journal.close()


def record(journal: Journal, step: int, **values: float) -> None:
    journal.append("metrics", {"step": step, "values": values or {"loss": float(step)}}, time_ms=step)


def test_metrics_of_many_steps_go_in_one_batch(journal: Journal) -> None:
    backend = FakeBackend()
    sizes: list[int] = []
    real = backend.log_metrics
    backend.log_metrics = lambda points: (sizes.append(len(points)), real(points))[1]  # type: ignore[method-assign]
    for step in range(300):
        record(journal, step, **{f"m{i}": 1.0 for i in range(7)})
    assert Deliverer(journal, backend).deliver() is None
    assert sum(sizes) == 2100
    assert max(sizes) <= MAX_POINTS
    assert len(sizes) == 3


def test_one_record_larger_than_a_batch_is_split(journal: Journal) -> None:
    backend = FakeBackend()
    record(journal, 0, **{f"m{i}": 1.0 for i in range(2500)})
    assert Deliverer(journal, backend).deliver() is None
    assert len(backend.points) == 2500
    assert journal.pending == 0


def test_records_of_all_kinds_keep_their_order(journal: Journal) -> None:
    backend = FakeBackend()
    record(journal, 0)
    journal.append("params", {"values": {"a": "1"}}, 1)
    record(journal, 1)
    journal.append("artifact", {"file": journal.keep_file(b"x", "x.txt"), "folder": "f"}, 1)
    journal.append("tags", {"values": {"t": "1"}}, 1)
    journal.append("status", {"status": "FINISHED"}, 1)
    assert Deliverer(journal, backend).deliver() is None
    assert backend.calls == ["last_steps", "metrics", "params", "metrics", "artifact", "tags", "status"]
    assert backend.files == {"f/x.txt": b"x"}


def test_waits_double_to_a_ceiling() -> None:
    backoff = Backoff(first_s=0.5, longest_s=30.0)
    assert [backoff.wait_s(n) for n in (1, 2, 3, 7, 8, 1000)] == [0.5, 1.0, 2.0, 30.0, 30.0, 30.0]


def test_an_absence_is_told_once_and_the_return_once(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    backend, clock = FakeBackend(), Clock()
    deliverer = Deliverer(journal, backend, clock=clock)
    backend.away = True
    record(journal, 0)
    for _ in range(5):
        wait_s = deliverer.deliver()
        assert wait_s is not None
        clock.sleep(wait_s)
    assert clock.waits == [0.5, 1.0, 2.0, 4.0, 8.0]
    backend.away = False
    assert deliverer.deliver() is None
    assert backend.history("loss") == [(0, 0.0)]
    messages = [r.getMessage() for r in caplog.records]
    assert len(messages) == 2
    assert "is away" in messages[0]
    assert "is back after 16 s" in messages[1]


def test_a_bad_metric_is_set_aside_and_its_neighbours_arrive(journal: Journal, tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.refuse = lambda kind, value: isinstance(value, MetricPoint) and value.key == "bad"
    record(journal, 0, loss=1.0)
    record(journal, 1, loss=2.0, bad=3.0)
    record(journal, 2, loss=4.0)
    deliverer = Deliverer(journal, backend)
    assert deliverer.deliver() is None
    assert backend.history("loss") == [(0, 1.0), (1, 2.0), (2, 4.0)]
    assert deliverer.num_rejected == 1
    assert '"bad": 3.0' in (tmp_path / "rejected.jsonl").read_text()
    assert journal.pending == 0


def test_a_deleted_run_sets_each_record_aside_without_trying_every_part(journal: Journal) -> None:
    backend = FakeBackend()
    backend.refuse = lambda kind, value: True
    for step in range(50):
        record(journal, step, **{f"m{i}": 1.0 for i in range(10)})
    deliverer = Deliverer(journal, backend)
    while deliverer.deliver() is not None:
        pass
    assert deliverer.num_rejected == 50
    assert len(backend.calls) < 10


def test_a_record_that_always_fails_on_a_living_server_is_set_aside(journal: Journal) -> None:
    backend, clock = FakeBackend(), Clock()
    backend.broken_kinds = {"params"}
    journal.append("params", {"values": {"a": "1"}}, 1)
    record(journal, 0)
    deliverer = Deliverer(journal, backend, clock=clock)
    while (wait_s := deliverer.deliver()) is not None:
        clock.sleep(wait_s)
    assert deliverer.num_rejected == 1
    assert 60.0 <= clock.now < 200.0
    assert backend.history("loss") == [(0, 0.0)]


def test_a_long_absence_sets_nothing_aside(journal: Journal) -> None:
    backend, clock = FakeBackend(), Clock()
    deliverer = Deliverer(journal, backend, clock=clock)
    assert deliverer.deliver() is None
    backend.away = True
    record(journal, 0)
    journal.append("params", {"values": {"a": "1"}}, 1)
    for _ in range(200):
        clock.sleep(deliverer.deliver() or 0.0)
    backend.away = False
    assert deliverer.deliver() is None
    assert deliverer.num_rejected == 0
    assert backend.params == {"a": "1"}


def test_steps_that_the_server_has_from_another_machine_are_left_out(journal: Journal) -> None:
    backend = FakeBackend()
    backend.points = [MetricPoint("loss", float(s), 900 + s, s) for s in range(4)]
    for step in range(2, 6):
        record(journal, step, loss=float(step), other=0.0)
    assert Deliverer(journal, backend).deliver() is None
    assert backend.history("loss") == [(s, float(s)) for s in range(6)]
    assert backend.history("other") == [(s, 0.0) for s in range(2, 6)]


def test_a_spool_that_cannot_be_kept_is_waited_out(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeBackend()
    record(journal, 0)
    deliverer = Deliverer(journal, backend)

    def full(records: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "acknowledge", full)
    assert deliverer.deliver() == 0.5
    monkeypatch.undo()
    assert deliverer.deliver() is None
    assert backend.history("loss") == [(0, 0.0)]


def test_a_record_of_a_newer_version_is_set_aside(journal: Journal) -> None:
    journal.append("hologram", {}, 1)
    deliverer = Deliverer(journal, FakeBackend())
    assert deliverer.deliver() is None
    assert deliverer.num_rejected == 1


def test_no_batch_is_begun_after_the_deadline(journal: Journal) -> None:
    backend, clock = FakeBackend(), Clock()
    for name in "abc":
        journal.append("params", {"values": {name: "1"}}, 1)
    deliverer = Deliverer(journal, backend, clock=clock)
    deliverer.deadline = 10.0
    backend.hook = lambda moment: clock.sleep(6.0) if moment == "after params" else None
    assert deliverer.deliver() == 0.0
    assert backend.params == {"a": "1", "b": "1"}
    assert journal.pending == 1
