"""orthanc-config/monitoring: the rules by promtool, and that rules and dashboard name only metrics that a node has."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from plugin.database import audit_log
from plugin.database.audit_log import AuditEvent, AuditSubject, Peer
from plugin.database.pool import Database
from plugin.http.database_probe import DatabaseProbe
from plugin.http.metrics import Metrics
from plugin.http.metrics_collector import NodeMetricsCollector
from plugin.settings.sections import Settings
from tests.support.paths import ROOT

FOLDER = ROOT / "orthanc-config" / "monitoring"
RULES = FOLDER / "glionode.rules.yml"


def promtool(program: Callable[[str], str], *words: str, where: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    command = [program("promtool"), *words]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=False, timeout=60)


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def queries_of_dashboard() -> list[str]:
    text = json.loads((FOLDER / "glionode.dashboard.json").read_text(encoding="utf-8"))
    return [target["expr"] for panel in text["panels"] for target in panel["targets"]]


def test_prometheus_loads_the_rules_and_the_example(program: Callable[[str], str]) -> None:
    for words in (("check", "rules", RULES.name), ("check", "config", "prometheus.yml")):
        done = promtool(program, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(alerts())} rules found" in promtool(program, "check", "rules", RULES.name).stdout


def test_each_alert_fires_when_it_should_and_none_in_a_node_in_order(program: Callable[[str], str]) -> None:
    done = promtool(program, "test", "rules", "glionode.rules.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    tried = (FOLDER / "glionode.rules.test.yml").read_text(encoding="utf-8")
    assert [rule["alert"] for rule in alerts() if f'"{rule["alert"]}"' not in tried] == []


def test_an_alert_that_never_fires_is_noticed(program: Callable[[str], str], tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "copy")
    rules = tmp_path / "copy" / RULES.name
    rules.write_text(rules.read_text().replace('{state="dead"}', '{state="deceased"}'))
    assert promtool(program, "test", "rules", "glionode.rules.test.yml", where=rules.parent).returncode == 1


def exported(database: Database, data_dir: Path) -> set[str]:
    """Return the names of all samples that a node exports; of a histogram those of its parts."""
    with database.pool.connection() as connection:
        peer = Peer("MR1", "192.0.2.1")
        audit_log.record(connection, AuditEvent.RECEIVED, AuditSubject("1.2"), "3 new instances", peer)
    registry: CollectorRegistry = Metrics().registry
    settings = Settings(storage={"data_dir": str(data_dir)})
    registry.register(NodeMetricsCollector(settings, DatabaseProbe(database.url), {}, receives=True))
    names = set()
    for line in generate_latest(registry).decode().splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return names


def test_rules_and_dashboard_name_metrics_that_a_node_exports(database: Database, tmp_path: Path) -> None:
    names = exported(database, tmp_path)
    for query in (*(rule["expr"] for rule in alerts()), *queries_of_dashboard()):
        named = set(re.findall(r"\bglionode_\w+", query))
        assert named or query.startswith("up{"), query
        assert named - names == set(), query


def test_the_example_says_what_the_node_serves_by_default() -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    (target,) = job["static_configs"]
    http = Settings().http
    assert target["targets"] == [f"{http.host}:{http.port}"]
    assert (job["job_name"], target["labels"]) == ("glionode", {"node": "glionode"})


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_what_where_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert "{{ $" in rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(".")
