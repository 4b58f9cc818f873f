"""Small jobs for the checks to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from steerline.config.finetune import FinetuneSpec
from steerline.config.load import load
from steerline.orchestration.preflight import CHECKS, ClusterResources, Finding, NodeResources
from steerline.orchestration.preflight.core import Scene

CONFIG = """\
name: tiny
model:
  source: {kind: random, architecture: llama, overrides: {num_hidden_layers: 2}}
data:
  train:
    - source: {kind: synthetic, generator: arithmetic, size: 8}
      format: {kind: text}
training:
  num_steps: 200
  global_batch_size: 8
  micro_batch_size: 2
"""


def job(folder: Path, *overrides: str) -> FinetuneSpec:
    """A job with these settings."""
    path = folder / "job.yaml"
    path.write_text(CONFIG)
    return load(path, overrides).spec


def find(
    check: str,
    spec: FinetuneSpec,
    cluster: ClusterResources | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[Finding]:
    """What one check finds."""
    (chosen,) = (known for known in CHECKS if known.id == check)
    return list(chosen.findings(Scene(spec, cluster, environment=environment or {}), elsewhere=False))


def only(findings: Sequence[Finding], *, fatal: bool) -> str:
    """The text of the one finding, which must be of this severity."""
    assert [finding.fatal for finding in findings] == [fatal], [str(finding.problem) for finding in findings]
    return str(findings[0].problem)


def nodes(
    *sizes: tuple[float, float], gpu_type: str | None = None, memory_gib: float | None = None
) -> ClusterResources:
    """A cluster of nodes with these (CPUs, GPUs)."""
    memory = None if memory_gib is None else memory_gib * 2**30
    return ClusterResources(
        tuple(NodeResources(f"n{i}", cpus, gpus, memory, gpu_type) for i, (cpus, gpus) in enumerate(sizes))
    )


def write_safetensors(path: Path, shapes: Mapping[str, Sequence[int]]) -> Path:
    """A file with these float32 weights, all zero; nothing is stored for them (the file is sparse)."""
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def model_folder(folder: Path, shapes: Mapping[str, Sequence[int]] | None = None, **config: object) -> Path:
    """A local model in Hugging Face layout."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 4, **config}))
    (folder / "tokenizer.json").write_text("{}")
    write_safetensors(folder / "model.safetensors", shapes or {"model.embed_tokens.weight": (10, 4)})
    return folder
