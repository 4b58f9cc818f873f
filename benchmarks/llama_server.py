"""llama.cpp's server as a contestant: it gets our weights in a type of its own, and answers like any other service."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, Keys, LlamaFileType
from gguf.quants import dequantize, quantize

from steerline.inference.request import GenRequest
from steerline.orchestration import processes
from steerline.orchestration.health import Server, wait_until_healthy
from steerline.orchestration.ports import HOST, free_ports

CONTEXT = 512  # tokens of a slot; prompts and answers of the benchmark take less
TYPES = {
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
}


def rewrite(source: Path, target: Path, dtype: str) -> None:
    """The same tokenizer and weights in another GGUF file, its matrices as `f16` or `bf16`."""
    kind, file_type = TYPES[dtype]
    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields[Keys.General.ARCHITECTURE].contents())
    for field in reader.fields.values():
        # The writer says these itself.
        if field.name not in (Keys.General.ARCHITECTURE, Keys.General.FILE_TYPE) and not field.name.startswith("GGUF."):
            element = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=element)
    writer.add_file_type(file_type)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if values.ndim > 1:
            writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
        else:  # norms, which llama.cpp wants in full
            writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Args:
        url: where.
        log: what it said, of its processor too.
    """

    url: str
    log: Path

    def client(self) -> httpx.AsyncClient:
        """A client that waits as long as an answer takes."""
        return httpx.AsyncClient(base_url=self.url, timeout=None, trust_env=False)

    def features(self) -> str:
        """The instructions that it was built for, of those that matter here."""
        said = re.findall(r"(AVX2|AVX512\w*) = 1", self.log.read_text(errors="replace"))
        return ", ".join(sorted(set(said))) or "not said"


@contextmanager
def running(binary: Path, model: Path, log: Path, *, slots: int, threads: int) -> Iterator[Running]:
    """A server that continues so many texts at once on this machine's processor."""
    (port,) = free_ports(1)
    mark = uuid.uuid4().hex
    command = [
        *(str(binary), "--model", str(model), "--host", HOST, "--port", str(port), "--offline"),
        *("--device", "none", "--threads", str(threads)),
        *("--cont-batching", "--parallel", str(slots), "--ctx-size", str(slots * CONTEXT)),
        # Prompts do not come back; putting them aside would only cost it time.
        *("--cache-ram", "0"),
        # At this level it says what it was built for.
        *("--log-verbosity", "4"),
    ]
    process = processes.start(command, {**os.environ, processes.MARK: mark}, log)
    url = f"http://{HOST}:{port}"
    try:
        wait_until_healthy([Server("llama.cpp's server", f"{url}/health", process, log)], print)
        yield Running(url, log)
    finally:
        processes.end([process], mark)


@dataclass(frozen=True)
class Said:
    """One answer."""

    text: str
    prompt_tokens: int
    tokens: int


class Llama:
    """The server as its clients see it: greedy, each text to the length that its request names."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def __call__(self, request: GenRequest) -> int:
        return (await self.complete(request)).tokens

    async def complete(self, request: GenRequest) -> Said:
        """The whole answer."""
        body: dict[str, Any] = {
            "prompt": request.prompt,
            "n_predict": request.sampling.max_tokens,
            "ignore_eos": True,
            # Greedy in the way that costs it least.
            "samplers": ["top_k"],
            "top_k": 1,
        }
        answer = await self._client.post("/completion", json=body)
        answer.raise_for_status()
        said = answer.json()
        return Said(said["content"], said["tokens_evaluated"], said["tokens_predicted"])
