"""SAFR's terms: do they fit the model, the data and each other?"""

from __future__ import annotations

from collections.abc import Iterator

from steerline.config.steering import SteeringSpec
from steerline.errors import AnatomyError, SteeringError
from steerline.orchestration.preflight.core import Finding, Scene, failure, warning

_OWN_GATE = "safr_classifier"


def safr(scene: Scene) -> Iterator[Finding]:
    """What SAFR's terms need, and settings of theirs that do nothing."""
    steering = scene.spec.objective.steering
    yield from _gate(scene, steering)
    yield from _packing(scene, steering)
    yield from _attention(scene, steering)
    yield from _balance(scene, steering)
    yield from _frozen(scene, steering)
    importance = steering.importance
    if importance is not None and importance.site == "embed" and importance.layers != "all":
        yield warning(
            "the embedding has no layers, so they change nothing",
            path="objective.steering.importance.layers",
            fix="leave `layers` out, or set `importance.site: block_out`",
        )
    partitioned = scene.spec.zero.stage == 3
    if importance is not None and importance.strength and importance.weights == "gradient_x_input" and partitioned:
        yield failure(
            "weights by gradients take a backward pass of their own, which partitioned parameters do not allow",
            path="objective.steering.importance.weights",
            got="gradient_x_input at ZeRO stage 3",
            fix="set `zero.stage: 2`, or `importance.weights: uniform`",
        )


def _gate(scene: Scene, steering: SteeringSpec) -> Iterator[Finding]:
    model = scene.model.config.get("model_type")
    has_own = model == _OWN_GATE and scene.model.config.get("vmask_hidden_size", 1) is not None
    by_gate = steering.importance is not None and steering.importance.weights == "vmask"
    vmask = steering.vmask
    if vmask is None:
        if by_gate and model is not None and not has_own:
            yield failure(
                "tokens are weighted by a VMASK gate, and the model has none",
                path="objective.steering.importance.weights",
                got=f"vmask, on {model}",
                fix="add `objective.steering.vmask: {}`, or set `importance.weights: uniform`",
            )
        return
    if not has_own and vmask.apply == "weight" and not by_gate and vmask.entropy_strength == 0:
        yield warning(
            "nothing uses the gate: it weighs tokens, but the importance term does not ask for weights",
            path="objective.steering.vmask",
            fix="set `importance.weights: vmask`, or leave `vmask` out",
        )
    if model is not None and not has_own and vmask.apply == "multiply":
        yield warning(
            "the gate sets whole token embeddings to 0, which a pretrained model has never seen",
            path="objective.steering.vmask.apply",
            got="multiply",
            fix="set `vmask.apply: weight`, unless you train from scratch",
        )


def _packing(scene: Scene, steering: SteeringSpec) -> Iterator[Finding]:
    if not scene.spec.data.packing:
        return
    for name, part in (("importance", steering.importance), ("interaction", steering.interaction)):
        if part is not None and part.strength and part.variant == "reference":
            yield failure(
                "the reference formula takes a row for one example, and packed rows hold several",
                path=f"objective.steering.{name}.variant",
                got="reference, with data.packing: true",
                fix=f"set `{name}.variant: masked`, or `data.packing: false`",
            )


def _attention(scene: Scene, steering: SteeringSpec) -> Iterator[Finding]:
    interaction, facts = steering.interaction, scene.model
    if interaction is None or not interaction.strength or facts.config.get("model_type") in (None, _OWN_GATE):
        return
    if any(isinstance(layer, int) and layer >= (facts.num_layers or layer + 1) for layer in interaction.layers):
        # The check of the layers says it.
        return
    config = facts.config
    try:
        _tap_without_weights(config, steering)
    except (AnatomyError, SteeringError) as error:
        yield failure(
            error.what,
            path="objective.steering.interaction",
            got=f"{error.where}: {error.got}" if error.where else str(error.got),
            expected=None if error.expected is None else str(error.expected),
            fix=error.fix,
        )


def _tap_without_weights(config: dict[str, object], steering: SteeringSpec) -> None:
    """Attach the interaction term to the architecture, whose weights take no memory."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModel

    from steerline.steering.attach import attach

    kind = str(config["model_type"])
    if kind not in CONFIG_MAPPING:
        return
    try:
        own = CONFIG_MAPPING[kind](**{name: value for name, value in config.items() if name != "model_type"})
        with torch.device("meta"):
            # The kernel that every architecture has; which one is chosen does not change what can be captured.
            model = AutoModel.from_config(own, attn_implementation="eager")
    except (TypeError, ValueError):
        # A config that makes no model is not this check's to report: loading says what is wrong with it.
        return
    attach(model, SteeringSpec(interaction=steering.interaction)).detach()


def _balance(scene: Scene, steering: SteeringSpec) -> Iterator[Finding]:
    spec = scene.spec
    if spec.objective.balance is None:
        return
    parts = (steering.entropy, steering.importance, steering.interaction)
    gate = steering.vmask is not None and steering.vmask.entropy_strength
    if not gate and not any(part is not None and part.strength for part in parts):
        yield warning("there is no side loss to balance", path="objective.balance", fix="leave it out")
    if spec.zero.stage == 3 and (spec.zero.offload_parameters or spec.cluster.use_gpu):
        yield failure(
            "balancing needs every worker to hold the whole model once, and this one is loaded in parts",
            path="objective.balance",
            got="ZeRO stage 3 on GPUs, or with parameters offloaded",
            fix="set `zero.stage: 2`; or find the constants in such a run and multiply the strengths by them",
        )


def _frozen(scene: Scene, steering: SteeringSpec) -> Iterator[Finding]:
    importance, vmask = steering.importance, steering.vmask
    if scene.spec.model.lora is None or importance is None or not importance.strength or importance.site != "embed":
        return
    if importance.weights != "vmask" and (vmask is None or vmask.apply == "weight"):
        yield warning(
            "the importance term moves nothing: adapters leave the embeddings as they are",
            path="objective.steering.importance.site",
            got="embed, with model.lora",
            fix="set `importance.site: block_out` or `ffn_keys`",
        )
