"""The systemd units, checked by systemd-analyze: that it understands them, and how far they are confined."""

import configparser
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plugin.commands.app import app
from plugin.settings.load import load_settings
from tests.support.paths import ROOT

FOLDER = ROOT / "orthanc-config" / "systemd"
UNITS = ("glionode-deliver", "glionode-listen", "glionode-serve", "glionode-work")
OPEN = {"IPAddressDeny=", "PrivateNetwork=", "RestrictAddressFamilies=~AF_(INET|INET6)"}
"""Confinements that a node cannot have; systemd's weights are from 0 (none) to 0.5."""


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units with another program, because glionode is not installed where the tests run."""
    folder = tmp_path_factory.mktemp("units")
    program = folder / "glionode"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in (*FOLDER.glob("*.service"), *FOLDER.glob("*/*.conf")):
        copied = folder / path.relative_to(FOLDER)
        copied.parent.mkdir(exist_ok=True)
        copied.write_text(path.read_text(encoding="utf-8").replace("/opt/glionode/bin/glionode", str(program)))
    return folder


def analyze(program: Callable[[str], str], units: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("systemd-analyze"), "--no-pager", *words],
        env={"SYSTEMD_UNIT_PATH": f"{units}:/usr/lib/systemd/system", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_systemd_understands_every_directive(program: Callable[[str], str], units: Path) -> None:
    finished = analyze(program, units, "verify", "--man=no", *(f"{unit}.service" for unit in UNITS))
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_confined(program: Callable[[str], str], units: Path, unit: str) -> None:
    options = ("--offline=true", "--threshold=20", "--json=short")
    finished = analyze(program, units, "security", *options, f"{unit}.service")
    exposed = {each["name"]: float(each["exposure"]) for each in json.loads(finished.stdout) if each["exposure"]}
    assert {name for name, weight in exposed.items() if weight >= 0.2} - OPEN == {
        "PrivateDevices=",  # GPUs
        "PrivateMounts=",
        "PrivateUsers=",  # AmbientCapabilities would have no effect
        "SystemCallFilter=~@privileged",  # only capset, see below
        "SystemCallFilter=~@resources",  # PyTorch's threads set their CPU affinity
    }
    assert finished.returncode == 0, "systemd's overall level, from 0 (best) to 10, is above 2.0"


def test_setpriv_may_run() -> None:
    """The embedded PostgreSQL runs under setpriv, which calls capset even to drop capabilities (seen with strace)."""
    lines = (FOLDER / "glionode-.service.d" / "hardening.conf").read_text(encoding="utf-8").splitlines()
    filters = [line.partition("=")[2] for line in lines if line.startswith("SystemCallFilter=")]
    assert filters == ["@system-service", "~@privileged", "capset"]


@pytest.mark.parametrize("unit", UNITS)
def test_units_run_existing_commands(unit: str) -> None:
    unit_file = configparser.ConfigParser(interpolation=None, strict=False)
    unit_file.read(FOLDER / f"{unit}.service")
    program, command = unit_file["Service"]["ExecStart"].split()
    assert program == "/opt/glionode/bin/glionode"
    assert unit == f"glionode-{command}"
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_the_environment_holds_existing_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = (FOLDER / "glionode-.service.d" / "hardening.conf").read_text(encoding="utf-8").splitlines()
    (environment,) = (line.partition("=")[2] for line in lines if line.startswith("Environment="))
    given = dict(each.split("=", 1) for each in environment.split())
    (tmp_path / "glionode.toml").touch()
    given["GLIONODE_CONFIG"] = str(tmp_path / Path(given["GLIONODE_CONFIG"]).name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    (state,) = (line.partition("=")[2] for line in lines if line.startswith("StateDirectory="))
    assert settings.data_dir == Path("/var/lib") / state
    (stop_s,) = (int(line.partition("=")[2]) for line in lines if line.startswith("TimeoutStopSec="))
    assert stop_s > 3 * settings.shutdown.drain_s
    user = next(line.split() for line in (FOLDER / "sysusers.conf").read_text().splitlines() if line.startswith("u "))
    assert [f"User={user[1]}", user[-1]] == [
        next(line for line in lines if line.startswith("User=")),
        "/var/lib/glionode",
    ]
