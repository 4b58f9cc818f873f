"""The dashboard and the guide show the series that the services export."""

from __future__ import annotations

import json
import re

from tests.unit.documentation import ROOT

SOURCES = "\n".join((ROOT / "services" / name).read_text() for name in ("metering.py", "gauges.py"))
EXPORTED = set(re.findall(r'metrics\.(?:Counter|Gauge|Histogram)\(\s*"(steerline_\w+)"', SOURCES))


def test_the_dashboard_draws_series_that_are_exported() -> None:
    dashboard = json.loads((ROOT / "infra" / "monitoring" / "grafana_dashboard.json").read_text())
    drawn = "\n".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    named = set(re.findall(r"ray_(steerline_\w+)", drawn))
    assert len(named) >= 6
    assert {re.sub(r"_(total|bucket)$", "", name) for name in named} <= EXPORTED


def test_the_guide_lists_every_series() -> None:
    guide = (ROOT / "docs" / "monitoring.md").read_text()
    assert set(re.findall(r"`(steerline_\w+)`", guide)) == EXPORTED
