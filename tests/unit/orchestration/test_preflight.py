"""The list of checks as a whole: everything at once, with places, pages and severity."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from steerline.config.load import load
from steerline.errors import PreflightError
from steerline.orchestration.preflight import CHECKS, ClusterResources, preflight
from steerline.orchestration.preflight.evaluate import EVALUATE_CHECKS
from steerline.orchestration.preflight.residual_fit import RESIDUAL_FIT_CHECKS
from steerline.orchestration.preflight.simulate import SIMULATE_CHECKS
from steerline.orchestration.preflight.sweep import SWEEP_CHECKS
from tests.unit.orchestration.preflight_scenes import CONFIG, job, nodes

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "errors" / "preflight.md"


def test_every_problem_comes_at_once_with_its_place_and_its_page(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(CONFIG.replace("kind: text", "kind: task, task: boolq"))
    loaded = load(path, ["cluster.num_workers=3", "data.train.0.source={kind: file, path: gone.jsonl}"])
    report = preflight(loaded.spec, cluster=nodes((2, 0)), provenance=loaded.provenance, environment={})
    found = {finding.check: finding.problem for finding in report.problems}
    assert {"batch", "data", "workers", "tracking"} <= set(found)
    assert str(found["batch"].where).endswith("job.yaml:10")
    assert found["workers"].where == "--set"
    assert found["batch"].see == "docs/errors/preflight.md#batch"
    with pytest.raises(PreflightError) as caught:
        report.raise_for_problems("tiny")
    assert caught.value.exit_code == 3
    assert str(caught.value).count("see:") == len(report.problems), "each problem names its page, and nothing else does"
    assert len(caught.value.problems) == len(report.problems)
    assert all(str(problem) in str(caught.value) for problem in found.values())
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_what_is_missing_on_this_machine_is_a_warning_for_a_job_elsewhere(tmp_path: Path) -> None:
    spec = job(tmp_path, "data.train.0.source={kind: file, path: gone.jsonl}", "cluster.num_workers=3")
    report = preflight(spec, cluster=None, elsewhere=True, environment={"PATH": str(tmp_path)})
    assert {finding.check for finding in report.problems} == {"batch"}
    assert {"data", "tracking"} <= {finding.check for finding in report.warnings}


def test_a_report_without_problems_lets_the_job_run(tmp_path: Path) -> None:
    report = preflight(job(tmp_path), cluster=nodes((4, 0)), elsewhere=True, environment={})
    assert report.problems == ()
    report.raise_for_problems("tiny")


def test_ids_are_distinct_and_each_has_its_place_on_the_page() -> None:
    ids = [check.id for check in CHECKS]
    assert len(set(ids)) == len(ids)
    headings = [line.removeprefix("## ").strip() for line in PAGE.read_text().splitlines() if line.startswith("## ")]
    others = [check.id for check in (*EVALUATE_CHECKS, *RESIDUAL_FIT_CHECKS, *SIMULATE_CHECKS)]
    assert headings == [*dict.fromkeys([*ids, *SWEEP_CHECKS, *others]), "Related"]


def test_preflight_starts_without_heavy_libraries() -> None:
    heavy = {"torch", "transformers", "ray", "mlflow", "datasets", "deepspeed", "httpx", "pyarrow", "huggingface_hub"}
    code = f"import sys, steerline.orchestration.preflight; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted((ROOT / "jobs" / "configs").rglob("*.yaml")), ids=lambda path: path.name)
def test_a_shipped_config_has_no_problem_of_its_own(path: Path) -> None:
    """Asked as for a job elsewhere, so that only what the config itself says counts."""
    report = preflight(load(path).spec, cluster=None, elsewhere=True, environment={})
    assert [str(finding.problem) for finding in report.problems] == []
    own = [finding for finding in report.warnings if finding.check in ("data", "model")]
    assert [str(finding.problem) for finding in own if "catalogue" in finding.problem.what] == []


def test_the_nodes_are_read_from_ray_and_from_its_state_api() -> None:
    total = {"CPU": 8.0, "GPU": 2.0, "memory": 1e9, "accelerator_type:A100": 1.0, "node:10.0.0.1": 1.0}
    in_process = [
        {"NodeID": "a", "Alive": True, "NodeManagerAddress": "10.0.0.1", "Resources": total},
        {"NodeID": "b", "Alive": False, "NodeManagerAddress": "10.0.0.2", "Resources": {}},
    ]
    over_http = [
        {"node_id": "a", "state": "ALIVE", "node_ip": "10.0.0.1", "resources_total": total},
        {"node_id": "b", "state": "DEAD", "node_ip": "10.0.0.2", "resources_total": {}},
    ]
    cluster = ClusterResources.from_ray(in_process)
    assert cluster == ClusterResources.from_ray(over_http)
    (node,) = cluster.nodes
    assert (node.name, node.cpus, node.gpus, node.memory_bytes, node.gpu_type) == ("10.0.0.1", 8, 2, 1e9, "A100")
    assert node.gpu_memory_bytes == 80 * 2**30
