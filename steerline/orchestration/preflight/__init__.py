"""What is looked at before a job runs, all at once and in seconds."""

from steerline.orchestration.preflight.core import Check, Finding, Report
from steerline.orchestration.preflight.resources import ClusterResources, NodeResources
from steerline.orchestration.preflight.run import CHECKS, preflight

__all__ = ["CHECKS", "Check", "ClusterResources", "Finding", "NodeResources", "Report", "preflight"]
