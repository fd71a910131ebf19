"""Test the Dockerfile as parsed by dockerfile-parse; tests/end_to_end/run_dockerfile.sh executes it."""

import json
import re
import subprocess
import sys
import tomllib
from io import BytesIO
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from typer.testing import CliRunner

from plugin.commands.app import app
from plugin.settings.sections import Settings
from tests.support.paths import ROOT

BUILD_TOOLS = ("gcc", "g++", "build-essential", "make", "python3-pip", "python3-dev", "git", "curl", "wget")
Step = tuple[str, str]


@pytest.fixture(scope="module")
def parsed() -> DockerfileParser:
    return DockerfileParser(fileobj=BytesIO((ROOT / "Dockerfile").read_bytes()))


@pytest.fixture(scope="module")
def stages(parsed: DockerfileParser) -> dict[str, list[Step]]:
    """Instructions by stage; those before the first stage are under ""."""
    found: dict[str, list[Step]] = {"": []}
    for line in parsed.structure:
        if line["instruction"] == "FROM":
            found[line["value"].split()[-1]] = []
        elif line["instruction"] != "COMMENT":
            found[list(found)[-1]].append((line["instruction"], line["value"]))
    return found


def values(steps: list[Step], word: str) -> list[str]:
    return [value for instruction, value in steps if instruction == word]


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def test_both_stages_use_slim_debian(parsed: DockerfileParser, stages: dict[str, list[Step]]) -> None:
    assert list(stages) == ["", "build", "node"]
    assert [each.partition("@")[0] for each in parsed.parent_images] == ["debian:bookworm-slim"] * 2
    assert parsed.labels["org.opencontainers.image.base.name"] == "debian:bookworm-slim"


def test_cuda_is_a_build_argument(stages: dict[str, list[Step]]) -> None:
    assert values(stages["build"], "ARG") == ["TORCH_INDEX=https://download.pytorch.org/whl/cpu"]
    (torch,) = (value for value in values(stages["build"], "RUN") if "torch==" in value)
    for index, expected in (("https://there/cpu", "--index-url https://there/cpu torch==1.2"), ("", "torch==1.2")):
        script = f"torch=torch==1.2; TORCH_INDEX={index}; echo {torch.partition(' --no-cache-dir ')[2]}"
        finished = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        assert finished.stdout.strip() == expected


def test_the_version_of_torch_is_that_of_the_project(stages: dict[str, list[Step]]) -> None:
    (torch,) = (value for value in values(stages["build"], "RUN") if "torch==" in value)
    script = torch.split("&&")[0] + '; echo "$torch"'
    finished = subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert finished.stdout.strip() in dependencies


def test_the_image_has_no_build_tools(stages: dict[str, list[Step]]) -> None:
    installed = " ".join(values(stages["node"], "RUN"))
    assert "--no-install-recommends python3 tini " in installed
    assert [tool for tool in BUILD_TOOLS if re.search(rf"(?<![\w-]){re.escape(tool)}(?![\w-])", installed)] == []
    assert values(stages["node"], "COPY") == ["--from=build /opt/glionode /opt/glionode"]
    assert any("venv --without-pip /opt/glionode" in value for value in values(stages["build"], "RUN"))


def test_no_package_lists_remain_in_the_image(stages: dict[str, list[Step]]) -> None:
    for value in [*values(stages["build"], "RUN"), *values(stages["node"], "RUN")]:
        if "apt-get install" in value:
            assert "rm -rf /var/lib/apt/lists/*" in value
        if " install --no" not in value:
            assert "pip --python" not in value


def test_the_image_runs_as_an_unprivileged_user(stages: dict[str, list[Step]]) -> None:
    steps = [word for word, _ in stages["node"]]
    assert values(stages["node"], "USER") == ["10001:10001"]  # a number: Kubernetes checks runAsNonRoot by it
    assert "--uid 10001" in " ".join(values(stages["node"], "RUN"))
    assert "RUN" not in steps[steps.index("USER") :]
    assert "COPY" not in steps[steps.index("USER") :]


def test_the_health_check_asks_only_a_node(stages: dict[str, list[Step]], tmp_path: Path) -> None:
    """A container that segments a session for XNAT serves nothing, so its check succeeds without asking."""
    (check,) = values(stages["node"], "HEALTHCHECK")
    *shell, script = json.loads(check[check.index("[") :])
    assert shell == ["sh", "-c"]
    first, health = tmp_path / "cmdline", tmp_path / "glionode"
    health.write_text('#!/bin/sh\n[ "$*" = health ] && exit 7\n')
    health.chmod(0o755)
    for words, status in (
        (["tini", "--", "glionode", "serve"], 7),
        (["sh", "-c", "glionode xnat-session /input /output --session-id XNAT_E1"], 0),
        (["/opt/glionode/bin/python", "/opt/glionode/bin/glionode", "xnat-session", "/input", "/output"], 0),
    ):
        first.write_bytes(b"".join(word.encode() + b"\0" for word in words))
        finished = subprocess.run(
            [*shell, script.replace("/proc/1/cmdline", str(first))],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            check=False,
        )
        assert finished.returncode == status, words
    assert CliRunner().invoke(app, ["health", "--help"]).exit_code == 0


def test_the_environment_has_valid_settings(
    parsed: DockerfileParser, stages: dict[str, list[Step]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {name: value for name, value in parsed.envs.items() if name.startswith("GLIONODE_")}
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert str(settings.data_dir) == values(stages["node"], "VOLUME")[0] == "/var/lib/glionode"
    assert settings.http.enabled
    assert settings.listener.host == settings.http.host == "127.0.0.1"  # no port is open by default
    assert values(stages["node"], "EXPOSE") == [f"{settings.listener.port} {settings.http.port}"]


def test_signals_reach_the_node(stages: dict[str, list[Step]]) -> None:
    assert [json.loads(value) for value in values(stages["node"], "ENTRYPOINT")] == [["tini", "--", "glionode"]]
    assert [json.loads(value) for value in values(stages["node"], "CMD")] == [["serve"]]


def test_labels_describe_the_image(parsed: DockerfileParser) -> None:
    labels = parsed.labels
    assert labels["org.opencontainers.image.title"] == "glionode"
    assert labels["org.opencontainers.image.version"] == version()
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert "not for patients" in labels["org.opencontainers.image.description"]


def test_the_label_for_xnat_has_the_command(parsed: DockerfileParser) -> None:
    command = json.loads((ROOT / "plugin/xnat/command.json").read_text(encoding="utf-8"))
    assert json.loads(parsed.labels["org.nrg.commands"]) == [command]
    assert command["version"] == version()
    assert command["image"] == f"glionode:{version()}"
    check = subprocess.run([sys.executable, ROOT / "scripts/write-xnat-label", "--check"], check=False)
    assert check.returncode == 0, "run scripts/write-xnat-label"


def test_only_copied_files_reach_the_builder(stages: dict[str, list[Step]]) -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    copied = {word for value in values(stages["build"], "COPY") for word in value.split()[:-1]}
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)
