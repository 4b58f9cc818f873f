"""The DeepSpeed dictionary says what the spec says, and nobody else says it too."""

from __future__ import annotations

from typing import Any

import pytest

from steerline.config.training import DEEPSPEED_KEYS_WE_SET, TrainingSpec, ZeroSpec
from steerline.training.zero import deepspeed_config


def config(zero: ZeroSpec, **training: Any) -> dict[str, Any]:
    return deepspeed_config(zero, TrainingSpec(num_steps=1, **training), accumulation=3)


def test_batch_arithmetic_is_handed_down() -> None:
    found = config(ZeroSpec(stage=2), micro_batch_size=2)
    assert (found["train_micro_batch_size_per_gpu"], found["gradient_accumulation_steps"]) == (2, 3)
    assert "train_batch_size" not in found


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_partitioned_stages_keep_master_weights_and_clip_in_deepspeed(stage: Any) -> None:
    found = config(ZeroSpec(stage=stage), clip_norm=0.5)
    assert found["bf16"] == {"enabled": True}
    assert found["gradient_clipping"] == 0.5
    assert found["zero_optimization"]["stage"] == stage


def test_at_stage_0_both_are_the_engines_own() -> None:
    found = config(ZeroSpec(), clip_norm=0.5)
    assert found["bf16"] == {"enabled": False}
    assert found["gradient_clipping"] == 0.0


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_gradients_accumulate_and_travel_in_float32(stage: Any) -> None:
    found = config(ZeroSpec(stage=stage))
    assert found["data_types"] == {"grad_accum_dtype": "fp32"}
    assert found["communication_data_type"] == "fp32"


def test_buckets_are_counted_in_float32_elements() -> None:
    assert config(ZeroSpec(stage=2, bucket_bytes=4_000_000))["zero_optimization"]["reduce_bucket_size"] == 1_000_000


def test_offload() -> None:
    found = config(ZeroSpec(stage=3, offload_optimizer=True, offload_parameters=True))["zero_optimization"]
    assert found["offload_optimizer"] == {"device": "cpu"}
    assert found["offload_param"] == {"device": "cpu"}


def test_further_keys_pass_through() -> None:
    raw = {"zero_optimization": {"stage3_max_live_parameters": 7}, "flops_profiler": {"enabled": True}}
    found = config(ZeroSpec(stage=3, raw=raw))
    assert found["zero_optimization"]["stage3_max_live_parameters"] == 7
    assert found["zero_optimization"]["stage"] == 3
    assert found["flops_profiler"] == {"enabled": True}


def test_no_key_that_is_set_here_may_come_from_raw() -> None:
    found = config(ZeroSpec(stage=3, offload_optimizer=True, offload_parameters=True))
    free = {"data_types", "communication_data_type", "steps_per_print", "wall_clock_breakdown", "zero_optimization"}
    assert found.keys() - free <= DEEPSPEED_KEYS_WE_SET.keys()
    nested = {f"zero_optimization.{key}" for key in found["zero_optimization"]} - {"zero_optimization.overlap_comm"}
    assert nested <= DEEPSPEED_KEYS_WE_SET.keys()
