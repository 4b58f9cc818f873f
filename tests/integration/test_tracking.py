"""Tracking against a real MLflow server that is killed, and a client process that is killed."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from steerline.config.tracking import TrackingSpec
from steerline.errors import TrackingError
from steerline.orchestration.ports import free_ports
from steerline.tracking import queries
from steerline.tracking.connection import connect
from steerline.tracking.lineage import Lineage, lineage, render
from steerline.tracking.recorder import Recorder
from steerline.tracking.references import RunRef
from steerline.tracking.registry import register, resolve
from steerline.tracking.runs import close_unstarted, finish, schedule_run, start_run
from steerline.tracking.spool import replay
from tests.integration.mlflow_fixture import MlflowServer

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with pytest.MonkeyPatch.context() as patch:
        # The tests talk to their own server only.
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
        server.start()
        yield server
        server.kill()


def begin(server: MlflowServer, name: str, **further: object) -> RunRef:
    spec = TrackingSpec(uri=server.uri, experiment="tests")
    return start_run(spec, run_name=name, kind="finetune", **further)  # type: ignore[arg-type]


def history(run: RunRef, key: str) -> list[tuple[int, float]]:
    return [(p.step, p.value) for p in queries.metric_history(run.tracking_uri, run.run_id, key)]


def test_a_server_killed_in_mid_run_loses_and_doubles_nothing(server: MlflowServer, tmp_path: Path) -> None:
    run = begin(server, "outage")
    recorder = Recorder(run, tmp_path, buffer_s=0.05)
    for step in range(40):
        recorder.metrics({"loss": 1.0 / (step + 1), "nan": float("nan")}, step)
    assert recorder.flush(120.0)
    # Killed while records keep flowing, so that some request is cut in two.
    for step in range(40, 200):
        recorder.metrics({"loss": 1.0 / (step + 1), "nan": float("nan")}, step)
        if step == 60:
            server.kill()
    recorder.params({"during": "outage"})
    recorder.text("written while the server was away", "notes/outage.txt")
    recorder.checkpoint("checkpoint-000100", "/checkpoints/100", 100)
    assert not recorder.flush(0.2)
    server.start()
    for step in range(200, 220):
        recorder.metrics({"loss": 1.0 / (step + 1), "nan": float("nan")}, step)
    assert recorder.close(120.0)
    assert history(run, "loss") == [(s, 1.0 / (s + 1)) for s in range(220)]
    assert [s for s, _ in history(run, "nan")] == list(range(220))
    info = queries.get_run(server.uri, run.run_id)
    assert info.params["during"] == "outage"
    models = connect(server.uri).search_logged_models([run.experiment_id], f"source_run_id = '{run.run_id}'")
    assert [model.name for model in models] == ["checkpoint-000100"]
    text = queries.download_artifact(server.uri, run.run_id, "notes/outage.txt", tmp_path / "fetched")
    assert text.read_text() == "written while the server was away"


def test_a_killed_client_is_replayed_and_resumed_without_doubles(server: MlflowServer, tmp_path: Path) -> None:
    run = begin(server, "killed-client")
    script = f"""
        import sys
        from pathlib import Path
        from steerline.tracking.recorder import Recorder
        from steerline.tracking.references import RunRef
        run = RunRef({run.tracking_uri!r}, {run.experiment_id!r}, {run.run_id!r})
        recorder = Recorder(run, Path({str(tmp_path)!r}))
        step = 0
        while True:
            recorder.metrics({{"loss": float(step)}}, step)
            step += 1
            if step == 300:
                recorder.flush(120.0)
            if step % 500 == 0:
                print(step, flush=True)
            if step > 400:
                __import__("time").sleep(0.0005)
    """
    client = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE)
    assert client.stdout is not None
    watchdog = threading.Timer(300.0, client.kill)
    watchdog.start()
    assert client.stdout.readline()
    client.send_signal(signal.SIGKILL)
    client.wait()
    watchdog.cancel()
    client.stdout.close()
    with Recorder(run, tmp_path) as resumed:
        last = resumed.last_step("loss")
        assert last is not None
        assert last >= 499
        for step in range(250, last + 50):
            resumed.metrics({"loss": float(step)}, step)
    assert history(run, "loss") == [(s, float(s)) for s in range(last + 50)]


def test_a_run_begun_again_is_the_same_run_and_counts_attempts(server: MlflowServer, tmp_path: Path) -> None:
    config = {"optim": {"lr": 0.1}, "hub_token": "hf_abcdefghijklmnopqrstuvwx"}
    first = begin(server, "resumed", config=config, config_hash="abc", config_provenance={"optim.lr": "a.yaml:3"})
    assert finish(first, "FAILED", tmp_path)
    assert queries.find_run(server.uri, "resumed").status == "FAILED"
    again = begin(server, "resumed", config={"optim": {"lr": 0.1}, "workers": 2}, ray_job_id="job-2")
    assert again == first
    info = queries.find_run(server.uri, "resumed")
    assert info.status == "RUNNING"
    assert info.tags["steerline.attempt"] == "2"
    assert info.tags["steerline.ray_job_id.2"] == "job-2"
    assert info.tags["steerline.config_hash"] == "abc"
    assert info.params["optim.lr"] == "0.1"
    assert info.params["workers"] == "2"
    assert info.params["hub_token"] == "[redacted]"
    kept = queries.download_artifact(server.uri, first.run_id, "config.resolved.json", tmp_path / "a")
    assert json.loads(kept.read_text())["hub_token"] == "[redacted]"
    second = queries.download_artifact(server.uri, first.run_id, "attempts/2/config.resolved.json", tmp_path / "b")
    assert json.loads(second.read_text())["workers"] == 2
    with pytest.raises(TrackingError, match="No run has this name"):
        queries.find_run(server.uri, "never-run")


def schedule(server: MlflowServer, name: str, submission_id: str, **further: object) -> RunRef | None:
    spec = TrackingSpec(uri=server.uri, experiment="tests")
    return schedule_run(spec, run_name=name, kind="finetune", submission_id=submission_id, **further)  # type: ignore[arg-type]


def test_a_scheduled_run_is_the_one_that_starts(server: MlflowServer) -> None:
    waiting = schedule(server, "scheduled", "scheduled-a1", config={"optim": {"lr": 0.1}})
    info = queries.find_run(server.uri, "scheduled")
    assert (info.status, info.params["optim.lr"], info.tags["steerline.kind"]) == ("SCHEDULED", "0.1", "finetune")
    assert "steerline.attempt" not in info.tags
    assert begin(server, "scheduled", ray_job_id="scheduled-a1") == waiting
    info = queries.find_run(server.uri, "scheduled")
    assert (info.status, info.tags["steerline.attempt"]) == ("RUNNING", "1")


def test_a_run_that_never_started_says_why_until_it_starts(server: MlflowServer) -> None:
    schedule(server, "refused-once", "refused-once-a1")
    assert not close_unstarted(server.uri, "refused-once", "another-a1", status="FAILED", reason="not this one")
    assert close_unstarted(server.uri, "refused-once", "refused-once-a1", status="FAILED", reason="no room")
    info = queries.find_run(server.uri, "refused-once")
    assert (info.status, info.tags["steerline.reason"]) == ("FAILED", "no room")
    assert schedule(server, "refused-once", "refused-once-a2") is not None
    info = queries.find_run(server.uri, "refused-once")
    assert info.status == "SCHEDULED"
    assert "steerline.reason" not in info.tags
    begin(server, "refused-once", ray_job_id="refused-once-a2")
    assert not close_unstarted(server.uri, "refused-once", "refused-once-a2", status="FAILED", reason="too late")
    assert queries.find_run(server.uri, "refused-once").status == "RUNNING"


@pytest.mark.parametrize(("end", "status"), [(None, "RUNNING"), ("FINISHED", "FINISHED"), ("FAILED", "SCHEDULED")])
def test_submitting_again_resets_no_run_that_is_going_or_finished(
    server: MlflowServer, tmp_path: Path, end: str | None, status: str
) -> None:
    name = f"submitted-again-{end}"
    run = begin(server, name)
    if end is not None:
        assert finish(run, end, tmp_path)
    before = queries.find_run(server.uri, name)
    assert (schedule(server, name, f"{name}-a2") is None) == (status != "SCHEDULED")
    after = queries.find_run(server.uri, name)
    assert after.status == status
    if status != "SCHEDULED":
        assert after == before


def test_a_server_that_is_away_is_no_error_where_a_run_is_closed(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    nobody = f"http://127.0.0.1:{port}"
    assert not close_unstarted(nobody, "gone", "gone-a1", status="FAILED", reason="x", timeout_s=0.1)


def test_runs_begun_at_once_make_one_experiment_and_one_run(server: MlflowServer) -> None:
    spec = TrackingSpec(uri=server.uri, experiment="begun-at-once")
    runs: list[RunRef] = []
    threads = [
        threading.Thread(target=lambda: runs.append(start_run(spec, run_name="same", kind="finetune")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300.0)
    assert len(runs) == 3
    assert len({run.experiment_id for run in runs}) == 1


def test_a_deleted_run_is_refused_and_its_records_are_set_aside(server: MlflowServer, tmp_path: Path) -> None:
    run = begin(server, "deleted")
    recorder = Recorder(run, tmp_path)
    connect(server.uri).delete_run(run.run_id)
    recorder.metrics({"loss": 1.0}, 0)
    recorder.text("x", "x.txt")
    assert recorder.close(120.0)
    rejected = (recorder.folder / "rejected.jsonl").read_text().splitlines()
    assert "active" in json.loads(rejected[0])["reason"]


def test_a_name_that_mlflow_refuses_does_not_hold_up_the_rest(server: MlflowServer, tmp_path: Path) -> None:
    run = begin(server, "refused")
    with Recorder(run, tmp_path) as recorder:
        recorder.params({"seed": 1})
        recorder.params({"seed": 2})
        recorder.metrics({"eval/arc (easy)@5": 0.5}, 1)
    assert history(run, "eval/arc _easy__5") == [(1, 0.5)]
    assert queries.get_run(server.uri, run.run_id).params["seed"] == "1"
    assert "Changing param values" in (tmp_path / run.run_id / "rejected.jsonl").read_text()


def test_every_write_may_be_repeated(server: MlflowServer, tmp_path: Path) -> None:
    run = begin(server, "repeated")
    export = tmp_path / "export"
    export.mkdir()
    (export / "config.json").write_text("{}")
    (export / "model.safetensors").write_bytes(b"0" * 64)
    recorder = Recorder(run, tmp_path / "spool")
    recorder.metrics({"loss": 1.0, "inf": float("inf"), "nan": float("nan")}, 1)
    recorder.params({"a": 1})
    recorder.tags({"t": "1"})
    recorder.text("x", "x.txt")
    recorder.dataset("boolq", "cd" * 32, "training", rows=3)
    recorder.checkpoint("checkpoint-1", "/c/1", 1)
    recorder.exported_model("export", export, 1)
    assert recorder.close(120.0)
    state = tmp_path / "spool" / run.run_id / "state.json"
    # As after a kill between the server's answer and the acknowledgement; the uploaded copy was not yet deleted.
    state.unlink()
    for line in next(state.parent.glob("records-*")).read_text().splitlines():
        stored = json.loads(line)["body"].get("file")
        if stored is not None:
            (state.parent / "files" / stored).parent.mkdir(parents=True)
            (state.parent / "files" / stored).write_text("x")
    (result,) = replay(tmp_path / "spool")
    assert (result.num_delivered, result.num_rejected, result.num_pending) == (7, 0, 0)
    client = connect(server.uri)
    for key in ("loss", "inf", "nan"):
        assert len(client.get_metric_history(run.run_id, key)) == 1
    entity = client.get_run(run.run_id)
    assert len(entity.inputs.dataset_inputs) == 1
    assert len(entity.outputs.model_outputs) == 2
    assert len(client.search_logged_models([run.experiment_id], f"source_run_id = '{run.run_id}'")) == 2


@pytest.fixture(scope="module")
def family(server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> RunRef:
    """A run with a data set, two checkpoints, an export of the second, a registered version, and a child derived from
    it."""
    folder = tmp_path_factory.mktemp("family")
    export = folder / "export"
    export.mkdir()
    (export / "config.json").write_text("{}")
    (export / "model.safetensors").write_bytes(b"0" * 64)
    run = begin(server, "mother", parents={"base_model": "HuggingFaceTB/SmolLM2-135M-Instruct"})
    recorder = Recorder(run, folder / "spool")
    recorder.dataset("boolq-train", "ab12" * 16, "training", rows=3)
    recorder.checkpoint("checkpoint-000020", "/c/20", 20)
    recorder.checkpoint("checkpoint-000040", "/c/40", 40)
    recorder.exported_model("export", export, 40, parents={"checkpoint": "checkpoint-000040"})
    assert recorder.close(120.0)
    registered = register(run, "export", "infosteer-smollm2", "candidate")
    begin(server, "daughter", parents={"base_model": registered.uri})
    return run


def shape(found: Lineage) -> dict[str, list[str]]:
    sides = {"up": found.up, "down": found.down}
    return {side: [f"{n.role}:{n.kind}" for n in node.walk()] for side, node in sides.items() if node is not None}


def test_a_registered_model_is_read_back_and_registering_again_changes_nothing(
    server: MlflowServer, family: RunRef
) -> None:
    found = resolve(server.uri, "models:/infosteer-smollm2@candidate")
    assert found.version == "1"
    assert found.weights.endswith("/export")
    again = register(family, found.weights, "infosteer-smollm2", "candidate")
    assert again.version == "1"
    version = connect(server.uri).get_model_version("infosteer-smollm2", "1")
    assert version.tags["steerline.parent.run"] == family.run_id
    with pytest.raises(TrackingError, match="recorded no such model"):
        register(family, "nothing", "infosteer-smollm2")
    with pytest.raises(TrackingError, match="refused"):
        resolve(server.uri, "models:/infosteer-smollm2@champion")


def test_a_model_is_traced_up_to_its_data(server: MlflowServer, family: RunRef) -> None:
    found = lineage(server.uri, "models:/infosteer-smollm2@candidate", "up")
    assert shape(found) == {
        "up": [":version", ":export", "checkpoint:checkpoint", ":run", "training:dataset", "base_model:other"]
    }
    assert found.up is not None
    assert [n.title for n in found.up.walk()][3:5] == ["mother", "boolq-train"]


def test_a_data_set_is_traced_down_to_the_models_made_from_it(server: MlflowServer, family: RunRef) -> None:
    found = lineage(server.uri, "ab12ab12", "down")
    assert shape(found) == {
        "down": [":dataset", ":run", ":checkpoint", ":checkpoint", ":export", ":version", "base_model:run"]
    }
    assert found.down is not None
    assert list(found.down.walk())[-1].title == "daughter"


def test_a_run_is_traced_in_both_directions_and_drawn(server: MlflowServer, family: RunRef) -> None:
    from rich.console import Console

    by_name, by_id = lineage(server.uri, "mother", "both"), lineage(server.uri, family.run_id, "both")
    assert by_name == by_id
    page = io.StringIO()
    Console(width=160, file=page).print(render(by_name))
    drawn = page.getvalue()
    for word in ("came from", "led to", "boolq-train", "checkpoint-000040", "infosteer-smollm2 version 1@candidate"):
        assert word in drawn


def test_a_daughter_is_traced_through_her_mother_to_the_data(server: MlflowServer, family: RunRef) -> None:
    found = lineage(server.uri, "daughter", "up")
    assert found.up is not None
    assert "boolq-train" in [node.title for node in found.up.walk()]


def test_an_unknown_reference_says_what_is_allowed(server: MlflowServer, family: RunRef) -> None:
    with pytest.raises(TrackingError, match="Nothing is known"):
        lineage(server.uri, "feedbeef")
