"""The KubeRay manifests are what KubeRay's own schema and Kubernetes' own schema accept."""

from __future__ import annotations

import gzip
import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from steerline.config.load import load

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = sorted((ROOT / "deploy" / "kuberay").glob("*.yaml"))
SCHEMAS = ROOT.parent / "shared" / "data" / "kuberay"


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Unknown keys are errors, as the API server treats them, save where a CRD keeps unknown fields."""
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: strict(sub) for name, sub in value.items()}
        else:
            out[key] = strict(value) if isinstance(value, dict) else value
    if "properties" in out and "additionalProperties" not in out:
        out["additionalProperties"] = bool(out.get("x-kubernetes-preserve-unknown-fields"))
    if out.pop("x-kubernetes-int-or-string", False):
        return {"type": ["integer", "string"]}
    return out


def kuberay_schema(kind: str) -> dict[str, Any]:
    path = SCHEMAS / f"{kind}.v1.schema.json.gz"
    if not path.exists():
        pytest.skip("KubeRay's schemas are not here")
    schema = strict(json.loads(gzip.decompress(path.read_bytes())))
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifest_is_what_its_tool_reads(path: Path) -> None:
    for document in documents(path):
        if document["apiVersion"] == "ray.io/v1":
            jsonschema.validate(document, kuberay_schema(document["kind"]))
        else:
            kubernetes_validate.validate(document, "1.31", strict=True)


def test_schema_check_finds_an_unknown_key() -> None:
    document = documents(ROOT / "deploy" / "kuberay" / "rayjob-finetune.yaml")[0]
    document["spec"]["shutDownAfterJobFinishes"] = True
    with pytest.raises(jsonschema.ValidationError, match="shutDownAfterJobFinishes"):
        jsonschema.validate(document, kuberay_schema("RayJob"))


def test_rayjob_runs_a_shipped_config_with_valid_overrides() -> None:
    document = documents(ROOT / "deploy" / "kuberay" / "rayjob-finetune.yaml")[0]
    words = shlex.split(document["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "jobs.finetune"]
    overrides = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    spec = load(ROOT / words[3], overrides).spec
    worker_groups = document["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert spec.cluster.num_workers == sum(group["replicas"] for group in worker_groups)
    mounts = worker_groups[0]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert any(spec.cluster.storage_path.startswith(mount["mountPath"] + "/") for mount in mounts)


def test_rayjob_demands_a_token() -> None:
    document = documents(ROOT / "deploy" / "kuberay" / "rayjob-finetune.yaml")[0]
    assert document["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
