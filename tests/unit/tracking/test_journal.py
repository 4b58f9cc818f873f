from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from steerline.errors import TrackingError
from steerline.tracking.journal import Journal
from steerline.tracking.references import RunRef
from tests.unit.tracking.fake import RUN


def metric(step: int, **values: float) -> dict[str, object]:
    return {"step": step, "values": values}


def fill(journal: Journal, steps: range) -> None:
    for step in steps:
        journal.append("metrics", metric(step, loss=float(step)), time_ms=1000 + step)


def steps_of(records: list) -> list[int]:
    return [record.body["step"] for record in records]


def test_records_come_back_in_order_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RUN)
    fill(journal, range(5))
    assert steps_of(journal.read(3)) == [0, 1, 2]
    assert steps_of(journal.read(3)) == [3, 4]
    assert journal.read(3) == []
    fill(journal, range(5, 6))
    assert steps_of(journal.read(3)) == [5]
    journal.close()


def test_what_is_not_acknowledged_comes_back_after_a_restart(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RUN)
    fill(journal, range(5))
    journal.acknowledge(journal.read(2))
    journal.close()
    again = Journal(tmp_path)
    assert again.run == RUN
    assert again.pending == 3
    assert steps_of(again.read(10)) == [2, 3, 4]
    assert again.last_steps == {"loss": 4}
    assert again.append("tags", {"values": {}}, 1) == 6
    again.close()


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_last_line_is_cut_off_and_its_number_used_again(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path, RUN)
    fill(journal, range(3))
    journal.close()
    (segment,) = tmp_path.glob("records-*")
    segment.write_bytes(segment.read_bytes()[:-cut])
    again = Journal(tmp_path, RUN)
    fill(again, range(7, 8))
    records = again.read(10)
    assert steps_of(records) == [0, 1, 7]
    assert [record.seq for record in records] == [1, 2, 3]
    again.close()


def test_a_damaged_line_in_the_middle_costs_that_record_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path, RUN)
    fill(journal, range(3))
    journal.close()
    (segment,) = tmp_path.glob("records-*")
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[1] = b"\x00" * (len(lines[1]) - 1) + b"\n"
    segment.write_bytes(b"".join(lines))
    again = Journal(tmp_path, RUN)
    assert steps_of(again.read(10)) == [0, 2]
    assert "damaged" in caplog.text
    again.close()


def test_segments_are_deleted_once_taken_and_the_steps_stay_known(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RUN, segment_bytes=200)
    fill(journal, range(20))
    assert len(list(tmp_path.glob("records-*"))) > 3
    seen = []
    while records := journal.read(3):
        seen += steps_of(records)
        journal.acknowledge(records)
    assert seen == list(range(20))
    assert len(list(tmp_path.glob("records-*"))) == 1
    fill(journal, range(20, 22))
    assert steps_of(journal.read(9)) == [20, 21]
    journal.close()
    again = Journal(tmp_path, RUN)
    assert again.last_steps == {"loss": 21}
    assert steps_of(again.read(9)) == [20, 21]
    again.close()


def test_a_second_owner_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RUN)
    with pytest.raises(TrackingError, match="Another process already records"):
        Journal(tmp_path, RUN, lock_wait_s=0.0)
    journal.close()
    Journal(tmp_path, RUN, lock_wait_s=0.0).close()


def test_a_folder_belongs_to_one_run_but_its_server_may_move(tmp_path: Path) -> None:
    Journal(tmp_path, RUN).close()
    with pytest.raises(TrackingError, match="belongs to another run"):
        Journal(tmp_path, RunRef(RUN.tracking_uri, RUN.experiment_id, "f" * 32))
    Journal(tmp_path, RunRef("http://127.0.0.1:6000", RUN.experiment_id, RUN.run_id)).close()
    journal = Journal(tmp_path)
    assert journal.run.tracking_uri == "http://127.0.0.1:6000"
    journal.close()


def test_a_folder_without_a_spool_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="holds no spool"):
        Journal(tmp_path)


def test_a_full_disk_keeps_records_in_memory_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path, RUN)
    fill(journal, range(1))
    import os

    real = os.write

    def short_write(fd: int, data: bytes) -> int:
        return real(fd, data[:7])

    monkeypatch.setattr("steerline.tracking.journal.os.write", short_write)
    fill(journal, range(1, 4))
    assert steps_of(journal.read(10)) == [0]
    assert caplog.text.count("records wait in memory") == 1
    monkeypatch.undo()
    journal.sync()
    assert steps_of(journal.read(10)) == [1, 2, 3]
    journal.close()
    (segment,) = tmp_path.glob("records-*")
    assert [json.loads(line)["seq"] for line in segment.read_bytes().splitlines()] == [1, 2, 3, 4]


def test_kept_files_go_when_taken_and_stay_with_a_refused_record(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RUN)
    for name in ("a.txt", "b.txt"):
        journal.append("artifact", {"file": journal.keep_file(name.encode(), name), "folder": ""}, 1)
    first, second = journal.read(10)
    journal.reject(second, "too large")
    journal.acknowledge([first, second])
    assert not list((tmp_path / "files").rglob("*.txt"))
    assert [path.read_text() for path in (tmp_path / "rejected").rglob("*.txt")] == ["b.txt"]
    line = json.loads((tmp_path / "rejected.jsonl").read_text())
    assert line["reason"] == "too large"
    assert line["seq"] == 2
    journal.close()


def test_a_damaged_state_file_means_sending_again_not_failing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RUN)
    fill(journal, range(3))
    journal.acknowledge(journal.read(2))
    journal.close()
    (tmp_path / "state.json").write_text("{")
    again = Journal(tmp_path, RUN)
    assert steps_of(again.read(10)) == [0, 1, 2]
    again.close()


def test_the_steps_of_deleted_segments_stay_known(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RUN, segment_bytes=200)
    journal.append("metrics", metric(7, rare=1.0), 1)
    fill(journal, range(20))
    journal.acknowledge(journal.read(100))
    journal.close()
    assert b"rare" not in b"".join(path.read_bytes() for path in tmp_path.glob("records-*"))
    again = Journal(tmp_path, RUN)
    assert again.last_steps == {"rare": 7, "loss": 19}
    again.close()


def test_a_segment_stays_until_its_last_record_is_taken(tmp_path: Path) -> None:
    journal = Journal(tmp_path, RUN, segment_bytes=200)
    fill(journal, range(10))
    second = int(sorted(tmp_path.glob("records-*"))[1].stem.removeprefix("records-"))
    records = journal.read(10)
    journal.acknowledge(records[: second - 2])
    assert (tmp_path / "records-000000000001.jsonl").exists()
    journal.acknowledge(records[second - 2 : second - 1])
    assert not (tmp_path / "records-000000000001.jsonl").exists()
    journal.close()


def test_recording_does_not_wait_for_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, RUN)
    fill(journal, range(1))
    in_the_meantime: list[threading.Thread] = []

    def slow_fsync(fd: int) -> None:
        recording = threading.Thread(target=fill, args=(journal, range(1, 2)), daemon=True)
        recording.start()
        recording.join(20)
        in_the_meantime.append(recording)

    monkeypatch.setattr("steerline.tracking.journal.os.fsync", slow_fsync)
    journal.sync()
    monkeypatch.undo()
    assert [thread.is_alive() for thread in in_the_meantime] == [False]
    assert steps_of(journal.read(9)) == [0, 1]
    journal.close()
