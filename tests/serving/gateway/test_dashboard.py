"""deploy/grafana/groundtune.json asks for metrics and labels that the gateway has, and for all of them."""

from __future__ import annotations

import json
import re

from serving.gateway.gate import Gate
from serving.gateway.metrics import GatewayMetrics
from tests.conftest import REPOSITORY

_METRIC = re.compile(r"(groundtune_\w+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)=~?\"")


def test_panels_show_what_there_is() -> None:
    gate = Gate("e", max_running=1, max_waiting=1, timeout_s=1, elapsed_s=lambda: 0.0)
    metrics = GatewayMetrics({"e": gate}, lambda: {"e": 0})
    known: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        endings = {"counter": ["_total"], "histogram": ["_bucket"], "gauge": [""]}[family.type]
        known.update({family.name + ending: labels for ending in endings})
    dashboard = json.loads((REPOSITORY / "deploy" / "grafana" / "groundtune.json").read_text())
    shown = set()
    places = []
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        places.append(tuple(panel["gridPos"].values()))
        for target in panel["targets"]:
            for name, selector in _METRIC.findall(target["expr"]):
                assert name in known, f"{panel['title']}: {name}"
                shown.add(name)
                assert "{{" in target["legendFormat"]
                # A label without a sample yet is not known; the others must be.
                used = set(_LABEL.findall(selector))
                assert used <= {"route", "model", "status", "code", "kind", "stage", "engine"}
    assert shown == set(known)
    assert len(places) == len(set(places))
    assert all(x + width <= 24 for x, _, width, _ in places)
