"""What a driver can learn of the Ray job that carries it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from steerline.tracking.provenance import Provenance, from_metadata


@dataclass(frozen=True)
class RayJob:
    """A job that `ray job submit`, or `steerline submit`, handed to a cluster."""

    submission_id: str
    metadata: Mapping[str, str]
    """What the submission said of itself; `steerline submit` says who submitted which commit."""
    working_dir: str | None
    """The folder that travelled, by the hash of its files (`gcs://_ray_pkg_<hash>.zip`); none if none did."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> RayJob | None:
        """The job of a driver with this environment; none for one that was started by hand."""
        # Ray 2.60 hands it over inside the job's config alone.
        config = json.loads(environment.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
        metadata = config.get("metadata") or {}
        submission_id = metadata.get("job_submission_id")
        if submission_id is None:
            return None
        return cls(submission_id, metadata, (config.get("runtime_env") or {}).get("working_dir"))

    def provenance(self, here: Provenance) -> Provenance:
        """Whose code runs: the submission's where a folder travelled, because that has no `.git`."""
        return here if self.working_dir is None else from_metadata(self.metadata, here)

    def tags(self) -> dict[str, str]:
        """What a run says about the submission that it came from."""
        tags = {
            "steerline.working_dir": self.working_dir,
            "steerline.submitted.host": self.metadata.get("host"),
            "steerline.submitted.packages_digest": self.metadata.get("packages_digest"),
        }
        if self.working_dir is not None and "git_commit" not in self.metadata:
            tags["steerline.git"] = "unknown: the working directory travels without .git; `steerline submit` records it"
        return {name: value for name, value in tags.items() if value is not None}
