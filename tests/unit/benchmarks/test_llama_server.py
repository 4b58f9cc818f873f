"""The weights that llama.cpp's server gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import dequantize, quantize

from benchmarks.llama_server import rewrite


@pytest.mark.parametrize(("dtype", "tolerance"), [("f16", 2**-11), ("bf16", 2**-8)])
def test_a_rewritten_model_has_the_same_words_and_weights_and_its_matrices_in_the_type(
    dtype: str, tolerance: float, tmp_path: Path
) -> None:
    dice = np.random.default_rng(0)
    matrix = quantize(dice.standard_normal((4, 64), dtype=np.float32), GGMLQuantizationType.Q4_1)
    norm = dice.standard_normal(64, dtype=np.float32)
    writer = GGUFWriter(tmp_path / "packed.gguf", "llama")
    writer.add_token_list(["a", "b"])
    writer.add_context_length(128)
    writer.add_tensor("blk.0.ffn_up.weight", matrix, raw_dtype=GGMLQuantizationType.Q4_1)
    writer.add_tensor("blk.0.ffn_norm.weight", norm)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    rewrite(tmp_path / "packed.gguf", tmp_path / "plain.gguf", dtype)
    made = GGUFReader(tmp_path / "plain.gguf")
    assert made.fields["tokenizer.ggml.tokens"].contents() == ["a", "b"]
    assert made.fields["llama.context_length"].contents() == 128
    weights, kept = made.tensors
    assert weights.tensor_type.name.lower() == dtype
    packed = dequantize(matrix, GGMLQuantizationType.Q4_1)
    np.testing.assert_allclose(dequantize(weights.data, weights.tensor_type), packed, rtol=tolerance)
    np.testing.assert_array_equal(kept.data, norm)
