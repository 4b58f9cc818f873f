from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from steerline.errors import TrackingError
from steerline.tracking.recorder import Recorder
from steerline.tracking.redact import MASK
from steerline.tracking.spool import main, replay
from tests.unit.tracking.fake import RUN, FakeBackend


class Ticks:
    """Milliseconds that rise by one with each record."""

    def __init__(self, start: int = 0) -> None:
        self.now = start

    def __call__(self) -> int:
        self.now += 1
        return self.now


def recorder(folder: Path, backend: FakeBackend, start_ms: int = 0) -> Recorder:
    return Recorder(RUN, folder, backend=backend, time_ms=Ticks(start_ms), buffer_s=0.01, lock_wait_s=0.0)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def live(tmp_path: Path, backend: FakeBackend) -> Iterator[Recorder]:
    with recorder(tmp_path, backend) as live:
        yield live


def test_everything_recorded_is_on_the_server_after_close(tmp_path: Path, backend: FakeBackend) -> None:
    with recorder(tmp_path, backend) as live:
        live.params({"optim": {"lr": 0.1}, "seed": 3})
        live.tags({"phase": "train"})
        for step in range(50):
            live.metrics({"train/loss": 1.0 / (step + 1)}, step)
        live.text("hello", "notes/a.txt")
        live.json({"a": [1]}, "b.json")
        live.dataset("boolq", "ab" * 32, "training", "steerline/boolq", rows=7)
        live.status("FINISHED")
    assert backend.params == {"optim.lr": "0.1", "seed": "3"}
    assert backend.tag_values == {"phase": "train"}
    assert backend.history("train/loss") == [(s, 1.0 / (s + 1)) for s in range(50)]
    assert backend.files["notes/a.txt"] == b"hello"
    assert json.loads(backend.files["b.json"]) == {"a": [1]}
    assert json.loads(backend.datasets[0].profile) == {"num_rows": 7}
    assert backend.statuses == ["FINISHED"]


def test_a_server_that_never_answers_does_not_hold_the_caller(tmp_path: Path, backend: FakeBackend) -> None:
    release = threading.Event()

    def hang(moment: str) -> None:
        assert release.wait(20)

    backend.hook = hang
    live = recorder(tmp_path, backend)
    for step in range(1000):
        live.metrics({"loss": 1.0}, step)
    assert backend.points == []
    release.set()
    assert live.close()
    assert len(backend.points) == 1000


def test_closing_while_the_server_is_away_keeps_the_spool_and_says_how_to_send_it(
    tmp_path: Path, backend: FakeBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.away = True
    live = recorder(tmp_path, backend)
    live.metrics({"loss": 1.0}, 0)
    live.text("x", "x.txt")
    assert live.close(timeout_s=0.0) is False
    assert f"python -m steerline.tracking.spool {live.folder}" in caplog.text
    backend.away = False
    (result,) = replay(tmp_path, make_backend=lambda run: backend)
    assert (result.run, result.num_delivered, result.num_pending) == (RUN, 2, 0)
    assert backend.history("loss") == [(0, 1.0)]
    assert backend.files == {"x.txt": b"x"}
    assert replay(live.folder, make_backend=lambda run: backend)[0].num_delivered == 0


def test_the_next_recorder_sends_what_the_last_left_before_its_own(tmp_path: Path, backend: FakeBackend) -> None:
    backend.away = True
    first = recorder(tmp_path, backend)
    for step in range(3):
        first.metrics({"loss": float(step)}, step)
    first.close(timeout_s=0.0)
    backend.away = False
    with recorder(tmp_path, backend, start_ms=1000) as second:
        second.metrics({"loss": 3.0}, 3)
    assert backend.history("loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]


@pytest.mark.parametrize("was_away", [True, False])
def test_steps_of_an_earlier_attempt_are_not_doubled(tmp_path: Path, backend: FakeBackend, was_away: bool) -> None:
    backend.away = was_away
    first = recorder(tmp_path, backend)
    for step in range(6):
        first.metrics({"loss": float(step), "lr": 0.1}, step)
    first.close(timeout_s=0.0 if was_away else 10.0)
    backend.away = False
    with recorder(tmp_path, backend, start_ms=1000) as second:
        assert second.last_step("loss") == 5
        for step in range(4, 9):  # from the checkpoint of step 4
            second.metrics({"loss": float(step), "lr": 0.1}, step)
            second.metrics({"heldout": 1.0}, step)
    assert backend.history("loss") == [(s, float(s)) for s in range(9)]
    assert backend.history("lr") == [(s, 0.1) for s in range(9)]
    assert backend.history("heldout") == [(s, 1.0) for s in range(4, 9)]


def test_a_step_recorded_twice_by_one_process_counts_once(live: Recorder, backend: FakeBackend) -> None:
    live.metrics({"loss": 1.0}, 1)
    live.metrics({"loss": 1.0}, 1)
    assert live.flush(10.0)
    assert backend.history("loss") == [(1, 1.0)]


def test_a_file_is_recorded_as_it_was_at_the_call(live: Recorder, backend: FakeBackend, tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_text("first")
    backend.away = True
    live.artifact(path, "reports")
    path.unlink()
    backend.away = False
    assert live.flush(10.0)
    assert backend.files == {"reports/report.txt": b"first"}
    assert not list(live.folder.rglob("report.txt"))


def test_secrets_are_masked_before_they_touch_the_disk(
    tmp_path: Path, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_TOKEN", "s3cr3t-value-0001")
    note = tmp_path / "note.md"
    note.write_text("token s3cr3t-value-0001")
    backend.away = True
    live = recorder(tmp_path / "spool", backend)
    live.params({"hub": {"token": "plain"}, "uri": "http://u:s3cr3t-value-0001@h/"})
    live.tags({"note": "s3cr3t-value-0001"})
    live.text("s3cr3t-value-0001", "a.txt")
    live.json({"password": "plain"}, "a.json")
    live.artifact(note)
    live.dataset("d", "ab" * 32, "training", "http://u:s3cr3t-value-0001@h/")
    live.close(timeout_s=0.0)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
    assert b"s3cr3t-value-0001" not in kept
    assert b"plain" not in kept
    assert kept.count(MASK.encode()) >= 6


def test_a_figure_becomes_a_png(live: Recorder, backend: FakeBackend) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([1, 2])
    live.figure(figure, "figures/loss.png")
    assert live.flush(20.0)
    assert backend.files["figures/loss.png"].startswith(b"\x89PNG")


@pytest.mark.parametrize("upload", [False, True])
def test_weights_are_uploaded_only_when_asked(
    live: Recorder, backend: FakeBackend, tmp_path: Path, upload: bool
) -> None:
    folder = tmp_path / "export"
    (folder / "sub").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "sub/vocab.txt"):
        (folder / name).write_text(name)
    live.exported_model(
        "export", folder, 40, parents={"checkpoint": "checkpoint-40"}, digests={"a": "1"}, upload_weights=upload
    )
    assert live.flush(10.0)
    model = backend.models["export"]
    uploaded = {(path.name, inner) for path, inner in model.files}
    expected = {("config.json", ""), ("vocab.txt", "sub")} | ({("model.safetensors", "")} if upload else set())
    assert uploaded == expected
    assert model.uri == str(folder)
    assert model.tags["steerline.parent.checkpoint"] == "checkpoint-40"
    assert len(model.tags["steerline.digest"]) == 64
    assert backend.files["models/export/sha256sums.txt"] == b"1  a\n"


def test_a_full_disk_costs_an_artefact_and_not_the_run(
    live: Recorder, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    live.text("x", "x.txt")
    assert "x.txt is not recorded" in caplog.text


def test_misuse_is_named(live: Recorder, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="must be a relative path"):
        live.text("x", "../x.txt")
    with pytest.raises(TrackingError, match="not a file"):
        live.artifact(tmp_path)
    with pytest.raises(TrackingError, match="does not take this name"):
        live.checkpoint("a/b", "/c", 1)
    live.close()
    with pytest.raises(TrackingError, match="closed"):
        live.metrics({"loss": 1.0}, 0)


def test_a_recorder_is_refused_in_a_forked_process(live: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steerline.tracking.recorder.os.getpid", lambda: -1)
    with pytest.raises(TrackingError, match="another process"):
        live.tags({"a": "b"})
    monkeypatch.undo()


def test_the_command_reports_an_empty_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert main([str(tmp_path)]) == 0
    assert "no spool" in caplog.text
