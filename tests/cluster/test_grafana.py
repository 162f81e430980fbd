"""The dashboard for Grafana asks for what the code counts, by the names that Ray exports, and for nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from command import rayforest

from rayforest.cluster.cloud.render import GRAFANA
from rayforest.engine.meter import LABELS, MEASURES

DASHBOARD: dict[str, Any] = json.loads(GRAFANA.read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
COUNTERS = {f"ray_{measure.name}" for measure in MEASURES if not measure.goes_down}
GAUGES = {f"ray_{measure.name}" for measure in MEASURES if measure.goes_down}


def test_every_metric_is_shown_and_no_other_is_asked_for() -> None:
    asked = {name for query in QUERIES for name in re.findall(r"\bray_\w+", query)}
    assert asked == COUNTERS | GAUGES
    (variable,) = [one for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    (name, label) = re.findall(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])[0]
    assert name in COUNTERS | GAUGES
    assert label in LABELS


def test_queries_name_labels_that_metrics_have_and_take_rates_of_counters_alone() -> None:
    for query in QUERIES:
        assert set(re.findall(r"(\w+)=~?\"", query)) <= set(LABELS)
        for group in re.findall(r"by \(([^)]*)\)", query):
            assert set(group.split(", ")) <= set(LABELS)
        rated = set(re.findall(r"(?:rate|max_over_time)\((ray_\w+)", query))
        assert rated <= COUNTERS
        assert set(re.findall(r"\bray_\w+", query)) - rated <= GAUGES
        assert query.count("(") == query.count(")")


def test_panels_have_places_of_their_own_and_ask_the_source_that_is_chosen() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        taken |= cells
        assert at["x"] + at["w"] <= 24
        assert panel["title"]
        assert panel["description"]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_it_is_rendered_with_a_cluster(tmp_path: Path) -> None:
    answer = rayforest("cluster", "render", "kuberay", "--out", tmp_path, "--json")
    assert "grafana.json" in answer.json["files"]
    assert json.loads((tmp_path / "grafana.json").read_text()) == DASHBOARD
