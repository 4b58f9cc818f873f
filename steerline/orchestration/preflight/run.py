"""Everything that is looked at before a job runs: the same list for `steerline validate`, `submit` and the job."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from steerline.config.evaluate import EvaluateSpec
from steerline.config.kinds import JobSpec
from steerline.config.residual_fit import ResidualFitSpec
from steerline.config.simulate import SimulateSpec
from steerline.config.sweep import BaseSpec, SweepSpec
from steerline.orchestration.preflight import (
    checks_cluster,
    checks_data,
    checks_job,
    checks_machine,
    checks_model,
    checks_safr,
    checks_tracking,
)
from steerline.orchestration.preflight.core import Check, Finding, Report, Scene
from steerline.orchestration.preflight.evaluate import EVALUATE_CHECKS, EvaluateScene
from steerline.orchestration.preflight.residual_fit import RESIDUAL_FIT_CHECKS, ResidualFitScene
from steerline.orchestration.preflight.resources import ClusterResources
from steerline.orchestration.preflight.simulate import SIMULATE_CHECKS, SimulateScene
from steerline.orchestration.preflight.sweep import SweepScene, sweep_findings

CHECKS: tuple[Check, ...] = (
    Check("batch", checks_job.batch, "job"),
    Check("schedule", checks_job.schedule, "job"),
    Check("steering", checks_job.steering, "job"),
    Check("safr", checks_safr.safr, "job"),
    Check("no-effect", checks_job.effect, "job"),
    Check("leakage", checks_job.leakage, "job"),
    Check("remote-code", checks_job.trust, "job"),
    Check("attention", checks_model.attention, "job"),
    Check("length", checks_model.length, "job"),
    Check("model", checks_model.source, "machine"),
    Check("attention-package", checks_model.attention_package, "machine"),
    Check("data", checks_data.sources, "machine"),
    Check("columns", checks_data.templates, "machine"),
    Check("workers", checks_cluster.capacity, "job"),
    Check("memory", checks_cluster.memory, "job"),
    Check("gpus", checks_cluster.gpus, "job"),
    Check("shared-storage", checks_cluster.shared_storage, "job"),
    Check("storage", checks_machine.storage, "machine"),
    Check("disk", checks_machine.disk, "machine"),
    Check("compiler", checks_machine.compiler, "machine"),
    Check("gpu-here", checks_machine.gpu, "machine"),
    Check("tracking", checks_tracking.server, "machine"),
)


def preflight(
    spec: JobSpec,
    *,
    cluster: ClusterResources | None,
    elsewhere: bool = False,
    provenance: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Report:
    """Look at everything that can be known before a job runs. Takes no longer than the tracking server's time-out.

    Args:
        spec: the job.
        cluster: the nodes; None when they are not known.
        elsewhere: the job will run on other machines than this one, so files, compiler and servers that are missing
            here are warnings; the job looks for them again where it runs.
        provenance: where each leaf of the config was written, for the messages (`Loaded.provenance`).
        environment: the environment that the job will have; None takes this process's.
    """
    variables = os.environ if environment is None else environment
    if isinstance(spec, SweepSpec):
        # A sweep's base stands below `base` in its file.
        inner = {path.removeprefix("base."): where for path, where in (provenance or {}).items()}

        def look(job: BaseSpec, leave_out_machine: bool) -> list[Finding]:
            scene, checks = _scene(job, cluster, inner, variables)
            asked = [check for check in checks if not (leave_out_machine and check.about == "machine")]
            return [finding for check in asked for finding in check.findings(scene, elsewhere=elsewhere)]

        findings = list(sweep_findings(SweepScene(spec, provenance or {}), look))
    else:
        scene, checks = _scene(spec, cluster, provenance or {}, variables)
        findings = [finding for check in checks for finding in check.findings(scene, elsewhere=elsewhere)]
    return Report(
        problems=tuple(finding for finding in findings if finding.fatal),
        warnings=tuple(finding for finding in findings if not finding.fatal),
    )


def _scene(
    spec: BaseSpec | SimulateSpec,
    cluster: ClusterResources | None,
    provenance: Mapping[str, str],
    environment: Mapping[str, str],
) -> tuple[Any, tuple[Check, ...]]:
    """What the checks of a kind of job look at, and these checks."""
    if isinstance(spec, ResidualFitSpec):
        return ResidualFitScene(spec, cluster, provenance, environment), RESIDUAL_FIT_CHECKS
    if isinstance(spec, EvaluateSpec):
        return EvaluateScene(spec, cluster, provenance, environment), EVALUATE_CHECKS
    if isinstance(spec, SimulateSpec):
        return SimulateScene(spec, cluster, provenance, environment), SIMULATE_CHECKS
    return Scene(spec, cluster, provenance, environment), CHECKS
