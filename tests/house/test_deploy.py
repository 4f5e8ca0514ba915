"""The container's files: what they name is there, and what must not be open is not. No daemon is needed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from gateway import config

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions() -> list[tuple[str, str]]:
    """(name, arguments) of each instruction, without comments, continued lines joined."""
    text = "\n".join(line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not re.match(r"\s*#", line))
    joined = text.replace("\\\n", "")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, rest))
    return found


def test_every_room_is_copied_and_nothing_that_is_not_let_in() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied: set[str] = set()
    for name, rest in instructions():
        if name == "COPY" and "--from" not in rest:
            *sources, _ = shlex.split(rest)
            copied |= set(sources)
    assert copied == let_in
    assert all((ROOT / path).exists() for path in copied)
    assert copied >= set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])


@pytest.mark.parametrize("extras", ["hub,otel", "gpu,hub,otel"])
def test_the_image_installs_what_the_project_declares(extras: str) -> None:
    (command,) = (rest for name, rest in instructions() if name == "RUN" and "tomllib" in rest)
    script = shlex.split(command)[2]
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "EXTRAS": extras}, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    wanted = PROJECT["project"]["dependencies"] + [
        line for extra in extras.split(",") for line in PROJECT["project"]["optional-dependencies"][extra]
    ]
    assert [str(Requirement(line)) for line in said.stdout.splitlines()] == [str(Requirement(line)) for line in wanted]


def test_the_kernels_are_compiled_by_who_runs_them() -> None:
    *_, last = stages()
    names = [name for name, _ in last]
    user = names.index("USER")
    assert last[user][1] == "sluice" and "USER" not in names[user + 1 :]
    compiling = [rest for name, rest in last[user:] if name == "RUN"]
    script = (ROOT / "scripts" / "kernels.sh").read_text()
    assert len(compiling) == 1 and re.search(r'python -c "(.*)"', script)[1] in compiling[0]  # type: ignore[index]
    assert {"HEALTHCHECK", "ENTRYPOINT", "STOPSIGNAL"} <= set(names)
    assert not any("latest" in rest for stage in stages() for name, rest in stage if name == "FROM")


def test_the_containers_settings_are_closed_by_default() -> None:
    settings = config.load(DEPLOY / "config" / "sluice.toml", {})
    assert settings.server.host == "0.0.0.0" and settings.auth.required and settings.server.watch
    *_, last = stages()
    environment = dict(pair.split("=", 1) for name, rest in last if name == "ENV" for pair in shlex.split(rest))
    assert environment["SLUICE_CONFIG"] == "/etc/sluice/sluice.toml"


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_compose_names_what_there_is_and_opens_loopback_only() -> None:
    told = compose()
    for name, service in told["services"].items():
        assert not service["image"].endswith(":latest") and ":" in service["image"], name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} is open to other machines"
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), f"{name}: there is no {source}"
                assert volume.endswith(":ro")
            else:
                assert source in told["volumes"]
        for needed in service.get("depends_on", ()):
            assert needed in told["services"]
    build = told["services"]["sluice"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).exists()
    arguments = {rest.split("=")[0] for name, rest in instructions() if name == "ARG"}
    assert set(build["args"]) <= arguments
    grace = int(told["services"]["sluice"]["stop_grace_period"].rstrip("s"))
    assert grace > config.load(DEPLOY / "config" / "sluice.toml", {}).server.drain_seconds


def test_what_is_written_to_on_a_read_only_root_is_a_volume() -> None:
    service = compose()["services"]["sluice"]
    assert service["read_only"]
    *_, last = stages()
    environment = dict(pair.split("=", 1) for name, rest in last if name == "ENV" for pair in shlex.split(rest))
    written = {environment[name] for name in ("SLUICE_CACHE", "NUMBA_CACHE_DIR", "TRITON_CACHE_DIR")}
    mounted = {volume.split(":")[1] for volume in service["volumes"] if not volume.endswith(":ro")}
    assert all(any(Path(path).is_relative_to(volume) for volume in mounted) for path in written)


def test_the_check_runs_the_image_as_compose_does() -> None:
    service = compose()["services"]["sluice"]
    script = (DEPLOY / "check.sh").read_text().replace("\\\n", " ")
    (command,) = (line for line in script.splitlines() if "run --detach" in line)
    for option in ("--init", "--read-only", *(f"--tmpfs {path}" for path in service["tmpfs"]), "--cap-drop ALL"):
        assert option in command
    for volume in service["volumes"]:
        assert volume.endswith(":ro") or f":{volume.split(':')[1]}" in command
    assert subprocess.run(["bash", "-n", DEPLOY / "check.sh"]).returncode == 0


def test_an_image_for_gpus_has_the_compiler_that_triton_calls() -> None:
    *_, last = stages()
    (command,) = (rest for name, rest in last if name == "RUN" and "apt-get" in rest)
    for extras, expected in [("gpu,hub,otel", True), ("hub,otel", False)]:
        said = subprocess.run(
            ["/bin/bash", "-c", f"apt-get() {{ echo $*; }}; rm() {{ :; }}; {command}"],
            env={"PATH": "", "EXTRAS": extras},
            capture_output=True,
            text=True,
        )
        assert said.returncode == 0 and ("gcc libc6-dev" in said.stdout) == expected


def test_no_password_is_written_down() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{([A-Z_]+)", text))
    offered = set(re.findall(r"^#? ?([A-Z_]+)=", (DEPLOY / ".env.example").read_text(), re.M))
    assert used - {"SLUICE_TAG"} <= offered
    for line in text.splitlines():
        if re.search(r"PASSWORD:", line):
            assert "${" in line and ":?" in line, line
    for line in (DEPLOY / ".env.example").read_text().splitlines():
        assert not re.match(r"[A-Z_]*PASSWORD=.", line)
    assert "deploy/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_compose_settings_can_be_served() -> None:
    environment = compose()["services"]["sluice"]["environment"]
    variables = {name: value for name, value in environment.items() if name.startswith("SLUICE_")}
    settings = config.load(DEPLOY / "config" / "sluice.toml", variables)
    assert settings.database.url == "postgresql://sluice@postgres/sluice"


def test_grafana_is_given_a_datasource_and_a_dashboard() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in compose()["services"]
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "sluice.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == source["uid"]
            assert target["expr"].count("(") == target["expr"].count(")"), target["expr"]
    places = [[panel["gridPos"][side] for side in "xywh"] for panel in dashboard["panels"]]
    cells = [(x + i, y + j) for x, y, w, h in places for i in range(w) for j in range(h)]
    assert len(cells) == len(set(cells)), "panels lie on one another"


def test_prometheus_scrapes_the_server() -> None:
    told = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = told["scrape_configs"]
    assert job["static_configs"][0]["targets"] == ["sluice:8000"]
    for file in told["rule_files"]:
        rules = yaml.safe_load((DEPLOY / "prometheus" / file).read_text())["groups"][0]["rules"]
        assert all(set(rule) >= {"alert", "expr", "annotations"} for rule in rules)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool, of Prometheus, is not installed")
@pytest.mark.parametrize(
    "checking",
    [
        ("check", "config", "deploy/prometheus/prometheus.yml"),
        ("test", "rules", "tests/house/alerts.yml"),
    ],
)
def test_alarms_are_raised_when_they_should_be(checking: tuple[str, ...]) -> None:
    said = subprocess.run(["promtool", *checking], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
