"""orthanc-config/compose.yaml: how its containers are confined, and that their settings fit each other.

No container runs here: the images are those of tests/test_dockerfile.py and of orthanc.Dockerfile.
"""

import json
import os
import re
import stat
import subprocess
import tomllib
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from models.package import IntendedUse
from plugin.orthanc_script.node_client import parse_node_settings
from plugin.settings.check import check_settings
from plugin.settings.destinations import OrthancDestinationSettings
from plugin.settings.load import load_settings
from plugin.settings.secrets import check_credentials, read_credentials, read_http_token
from plugin.settings.sections import Settings
from tests.support.paths import ROOT

FOLDER = ROOT / "orthanc-config"
SERVICES = ("orthanc", "node", "node-gpu", "database")
Json = dict[str, Any]


def read_compose_file(**environment: str) -> Json:
    """Return the content of the file with its variables, `${NAME:-default}`, filled in."""
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    filled = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: environment.get(match[1], match[2]), text)
    assert "${" not in filled
    return dict(yaml.safe_load(filled))


COMPOSED = read_compose_file()


def service(name: str) -> Json:
    return dict(COMPOSED["services"][name])


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that make-secrets has written."""
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    subprocess.run([FOLDER / "make-secrets", folder], check=True, capture_output=True)
    return folder


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, secrets: Path) -> Settings:
    """The node's settings by the environment of its image and of the file, with the secrets of make-secrets."""
    for name in [name for name in os.environ if name.startswith("GLIONODE_")]:
        monkeypatch.delenv(name)
    image = DockerfileParser(fileobj=BytesIO((ROOT / "Dockerfile").read_bytes())).envs
    ours = {name: value for name, value in image.items() if name.startswith("GLIONODE_")}
    for name, value in (ours | service("node")["environment"]).items():
        assert isinstance(value, str), f"{name}: YAML does not read it as a string"
        monkeypatch.setenv(name, value.replace("/run/secrets", str(secrets)))
    return load_settings()


def read_orthanc_json(path: Path) -> Json:
    """Read a configuration of Orthanc, which has comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(json.loads("\n".join(line for line in lines if not line.strip().startswith("//"))))


def test_the_gpu_service_differs_from_the_cpu_service_only_in_its_image() -> None:
    assert tuple(COMPOSED["services"]) == SERVICES
    assert [service(name).get("profiles") for name in SERVICES] == [None, ["cpu"], ["gpu"], None]
    gpu, cpu = service("node-gpu"), service("node")
    (device,) = gpu.pop("deploy")["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert gpu.pop("build") == {"context": "..", "args": {"TORCH_INDEX": ""}}
    assert gpu.pop("image") == f"{cpu['image']}-cuda"
    assert gpu | {"profiles": 0} == {name: cpu[name] for name in cpu if name not in ("build", "image")} | {
        "profiles": 0
    }


def test_images_have_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert service("node")["image"] == f"glionode:{version}"
    assert service("orthanc")["image"] == f"glionode-orthanc:{version}"
    for name in ("orthanc", "node", "node-gpu"):
        build = service(name)["build"]
        assert (FOLDER / build["context"] / build.get("dockerfile", "Dockerfile")).is_file()


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_confined(name: str) -> None:
    each = service(name)
    assert each["read_only"] is True
    assert each["cap_drop"] == ["ALL"]
    assert each["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", each["user"])
    assert "/tmp" in each["tmpfs"]
    assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & set(each)
    assert each["restart"] == "unless-stopped"


def test_every_service_has_a_health_check() -> None:
    assert service("database")["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    for path in (ROOT / "Dockerfile", FOLDER / "orthanc.Dockerfile"):
        steps = [line["instruction"] for line in DockerfileParser(fileobj=BytesIO(path.read_bytes())).structure]
        assert "HEALTHCHECK" in steps
    assert service("node")["depends_on"] == {"database": {"condition": "service_healthy"}}


def test_only_orthanc_can_be_reached_from_outside() -> None:
    assert service("orthanc")["ports"] == ["4242:4242", "127.0.0.1:8042:8042"]
    assert [name for name in SERVICES if "ports" in service(name)] == ["orthanc"]
    assert COMPOSED["networks"]["inside"] == {"internal": True}
    assert list(service("node")["networks"]) == ["inside"]
    assert service("database")["network_mode"] == "none"
    assert service("database")["command"] == ["-c", "listen_addresses="]
    with_socket = [
        name for name in SERVICES if any("socket" in json.dumps(each) for each in service(name).get("volumes", ()))
    ]
    assert with_socket == ["node", "node-gpu", "database"]


def test_secrets_come_from_files(secrets: Path) -> None:
    declared = {name: FOLDER / each["file"] for name, each in COMPOSED["secrets"].items()}
    assert {path.name for path in declared.values()} == {path.name for path in secrets.iterdir()} == set(declared)
    assert {path.parent.resolve() for path in declared.values()} == {FOLDER / "secrets"}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/orthanc-config/secrets/" in ignored
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}
    text = json.dumps(COMPOSED)
    assert all((secrets / name).read_text() not in text for name in ("glionode.token", "orthanc.password"))


def test_the_builder_of_orthancs_image_gets_no_secret() -> None:
    context = FOLDER / service("orthanc")["build"]["context"]
    lines = (context / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["*"]
    instructions = DockerfileParser(fileobj=BytesIO((FOLDER / "orthanc.Dockerfile").read_bytes())).structure
    assert not {"ADD", "COPY"} & {line["instruction"] for line in instructions}, "the image needs nothing of the folder"
    assert "mount=" not in "".join(line["content"] for line in instructions)


def test_existing_secrets_are_not_replaced(secrets: Path) -> None:
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    again = subprocess.run([FOLDER / "make-secrets", secrets], check=False, capture_output=True, text=True)
    assert again.returncode == 1
    assert "was not changed" in again.stderr
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before


def test_the_nodes_settings_load_without_findings(settings: Settings) -> None:
    findings = check_settings(settings, IntendedUse.CLINICAL)
    assert [(each.severity.value, each.key) for each in findings] == [("warning", "orthanc.url")]  # it uses http
    assert list(check_credentials(settings)) == []
    assert str(settings.data_dir) in [each.partition(":")[2] for each in service("node")["volumes"][:1]]
    assert settings.destinations == (OrthancDestinationSettings(name="orthanc", via="orthanc"),)
    socket = service("node")["volumes"][1]
    assert urlsplit(settings.database.url).query == f"host={socket['target']}"
    database = service("database")
    assert urlsplit(settings.database.url).username == database["environment"]["POSTGRES_USER"]
    assert urlsplit(settings.database.url).path == f"/{database['environment']['POSTGRES_DB']}"
    assert f"{socket['source']}:/var/run/postgresql" in database["volumes"]


def test_a_variable_allows_results_of_a_demonstration() -> None:
    node = read_compose_file(TRY_DEMONSTRATION="true")["services"]["node"]
    assert json.loads(node["environment"]["GLIONODE_DESTINATIONS"]) == [
        {"name": "orthanc", "via": "orthanc", "accepts_demonstration": True}
    ]


def test_settings_of_orthanc_and_the_node_fit(settings: Settings, secrets: Path) -> None:
    config = read_orthanc_json(secrets / "orthanc.json")
    credentials = read_credentials(settings.orthanc, "orthanc")
    assert config["RegisteredUsers"] == {credentials.user: credentials.password}
    assert config["RemoteAccessAllowed"] is config["AuthenticationEnabled"] is True
    assert urlsplit(settings.orthanc.url).netloc == f"orthanc:{config['HttpPort']}"
    plugin = parse_node_settings(config["GlioNode"])
    assert urlsplit(plugin.url).netloc == f"node:{settings.http.port}"
    for name in ("node", "node-gpu"):
        assert service(name)["networks"] == {"inside": {"aliases": ["node"]}}
    ours = read_orthanc_json(FOLDER / "orthanc.json")
    config["RegisteredUsers"], config["RemoteAccessAllowed"] = ours["RegisteredUsers"], ours["RemoteAccessAllowed"]
    assert (plugin.insecure, ours["GlioNode"]["Insecure"]) == (True, False), "insecure only in compose's network"
    for name in ("Url", "Insecure"):
        config["GlioNode"][name] = ours["GlioNode"][name]
    assert config == ours
    assert read_http_token(settings.http) == (secrets / plugin.token_file).read_text()


def test_orthancs_files_are_at_the_paths_of_its_configuration(secrets: Path) -> None:
    config, orthanc = read_orthanc_json(secrets / "orthanc.json"), service("orthanc")
    parser = DockerfileParser(fileobj=BytesIO((FOLDER / "orthanc.Dockerfile").read_bytes()))
    words = {line["instruction"]: line["value"] for line in parser.structure}
    home = Path(words["WORKDIR"])
    mounted = dict(each.split(":")[:2] for each in orthanc["volumes"])
    assert mounted.pop("orthanc") == str(home / config["StorageDirectory"]) == words["VOLUME"]
    assert f"install -d -o 10001 -g 10001 -m 0700 {words['VOLUME']}" in words["RUN"]
    assert all((FOLDER / source).exists() for source in mounted)
    assert mounted["./load_plugin.py"] == str(home / config["PythonScript"])
    assert mounted["../plugin"] == str(home / "plugin")  # beside the folder of load_plugin.py, as in a checkout
    targets = {each["source"]: each["target"] for each in orthanc["secrets"]}
    (config_name,) = json.loads(words["CMD"])
    assert targets["orthanc.json"] == str(home / config_name)
    assert targets["glionode.token"] == str(home / config["GlioNode"]["TokenFile"])
    assert words["USER"] == orthanc["user"]
    assert words["EXPOSE"] == f"{config['DicomPort']} {config['HttpPort']}"
