"""Every figure that the dashboard, the alarms and the documentation name is on /metrics of a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import MODEL, serve

ROOT = Path(__file__).parents[2]
NAMING = (
    "deploy/grafana/dashboards/sluice.json",
    "deploy/prometheus/alerts.yml",
    "docs/operations.md",
)
ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"const": 1}}}


@pytest.fixture(scope="module")
def shown(embedded_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """Names of samples → names of their labels, as far as there are samples. The server has answered one request."""
    log = tmp_path_factory.mktemp("figures") / "log"
    with serve(log, SLUICE_TELEMETRY__BY_KEY="true") as server:
        asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "response_format": FORMAT}
        assert httpx.post(f"{server.url}/v1/chat/completions", json=asked, timeout=120).status_code == 200
        text = httpx.get(f"{server.url}/metrics", timeout=60).text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for ending in ENDINGS.get(family.type, ()):
            found[family.name + ending] = set()
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    yield found


@pytest.mark.parametrize("file", NAMING)
def test_every_figure_that_is_named_is_there(file: str, shown: dict[str, set[str]]) -> None:
    named = set(re.findall(r"\bsluice_[a-z0-9_]+", (ROOT / file).read_text())) - {"sluice_http", "sluice_engine"}
    histograms = {name.removesuffix("_bucket") for name in shown if name.endswith("_bucket")}
    documented = file.endswith(".md")
    missing = {name for name in named if name not in shown and not (documented and name in histograms)}
    assert len(named) > 3 and not missing


def test_labels_that_the_dashboard_groups_by_are_there(shown: dict[str, set[str]]) -> None:
    text = (ROOT / NAMING[0]).read_text().replace('\\"', '"')
    looked_at = 0
    for groups, rest in re.findall(r"by \(([a-z, ]+)\) \((.*?)\)", text):
        for metric in re.findall(r"\bsluice_[a-z0-9_]+", rest):
            if labels := shown[metric]:
                looked_at += 1
                assert set(groups.split(", ")) <= labels | {"instance"}, metric
    assert looked_at > 10


def test_all_figures_are_documented(shown: dict[str, set[str]]) -> None:
    """Those of this server's own; the engine's are named in part, and come with a sentence each on /metrics."""
    text = (ROOT / "docs" / "operations.md").read_text()
    ours = {name for name in shown if re.match(r"sluice_(http|route|provider|ledger|key|config)_", name)}
    bases = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in ours}
    undocumented = {name for name in bases if name not in text and f"{name}_total" not in text}
    assert not undocumented
