"""A whole node with a plugin: who reaches its routes, what the network brings, and glionode's own plugin in it."""

import http.client
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SettingsWrong
from plugin.node.lock import running_node
from plugin.orthanc_api.script import PluginFiles
from tests.support.hosted_plugin import orthanc_ids
from tests.support.node import MARKER, NodeInThread, make_instance, new_study_uid, run, send, wait_until
from tests.support.paths import ROOT

TOKEN = "a-token-of-the-tests-alone"
ANYONE = "anyone who reaches this port may read and delete patients"
SCRIPT = """
import json
import orthanc

SEEN = []


def on_stored(dicom, instance):
    SEEN.append((dicom.GetInstanceRemoteAet(), instance))
    orthanc.SetMetricsValue("instances", len(SEEN), orthanc.MetricsType.DEFAULT)


def seen(output, uri, **request):
    output.AnswerBuffer(json.dumps(SEEN), "application/json")


def large(output, uri, **request):
    assert "authorization" not in request["headers"], "plugins log what they like"
    output.SetHttpHeader("Access-Control-Allow-Origin", "*")
    output.AnswerBuffer(str(len(request["body"])), "text/plain")


orthanc.RegisterOnStoredInstanceCallback(on_stored)
orthanc.RegisterRestCallback("/plugin/seen", seen)
orthanc.RegisterRestCallback("/plugin/size", large)
orthanc.RegisterIncomingHttpRequestFilter(lambda uri, **request: request["headers"].get("x-who") != "nobody")
"""
MakeNode = Callable[..., NodeInThread]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def ask(
    node: NodeInThread, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    """Status and body of an answer."""
    found = running_node(node.settings.data_dir)
    assert found is not None
    connection = http.client.HTTPConnection(found.http_url.removeprefix("http://"), timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, content


def test_a_node_runs_a_plugin(
    make_node: MakeNode, script: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "token").write_text(TOKEN)
    node = make_node(http={"enabled": True, "port": 0, "token_file": str(tmp_path / "token")})
    node.plugin = PluginFiles(script)
    node.start()
    shown = {"Authorization": f"Bearer {TOKEN}"}
    instance = make_instance(new_study_uid())
    assert send(node.port, instance) == [0x0000]
    expected = json.dumps([["SCANNER", orthanc_ids(instance).instance]])
    wait_until(lambda: ask(node, "/plugin/seen", **shown) == (200, expected), "the plugin is told who sent it")
    assert "glionode_plugin_instances 1.0" in ask(node, "/metrics")[1]
    wait_until(lambda: ask(node, "/health")[0] == 200, "it is well")
    assert ask(node, "/plugin/size", "POST", bytes(3 << 20), **shown) == (200, str(3 << 20))
    assert ask(node, "/plugin/seen", x_who="nobody", **shown)[0] == 403
    assert ask(node, "/patients", **shown)[0] == 404, "Orthanc's own API is the plugin's alone"
    for path in ("/plugin/seen", "/plugin/nonsense", "/patients"):
        assert [ask(node, path)[0], ask(node, path, Authorization="Bearer wrong")[0]] == [401, 401]
    node.end()
    assert MARKER not in caplog.text


@pytest.mark.parametrize(
    ("http", "refused"),
    [
        ({}, "so they need a token"),
        ({"host": "0.0.0.0", "insecure": True}, "so they need a token"),
        ({"host": "0.0.0.0", "insecure": True, "allow_without_token": ANYONE}, "Beyond loopback routes"),
    ],
)
def test_its_routes_need_a_token(make_node: MakeNode, script: Path, http: dict[str, object], refused: str) -> None:
    node = make_node(http={"enabled": True, "port": 0, **http})
    node.plugin = PluginFiles(script)
    with pytest.raises(SettingsWrong, match=refused):
        node.start()


def test_the_orthanc_script_drives_the_node_that_it_runs_in(
    make_node: MakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    http = {"enabled": True, "port": 0, "allow_without_token": ANYONE}
    node = make_node(http=http, study={"stable_after_s": 3600})
    node.plugin = PluginFiles(ROOT / "orthanc-config" / "load_plugin.py")
    node.start()
    study = new_study_uid()
    instances = [make_instance(study, number=number) for number in (1, 2, 3)]
    assert send(node.port, *instances) == [0x0000] * 3
    path = f"/glionode/studies/{orthanc_ids(instances[0]).study}"

    def answer(method: str = "GET", body: bytes | None = None) -> Any:
        return json.loads(ask(node, path, method, body, Content_Type="application/json")[1])

    wait_until(lambda: ask(node, path)[0] == 200, "the study is known")
    assert answer()["state"] == "unknown", "it is not stable for an hour"
    first = answer("POST")
    assert (first["study_instance_uid"], first["added"]) == (study, True)
    wait_until(lambda: answer()["state"] == "segmented", "it is segmented, as was wished")
    assert len(answer()["outputs"]) == 2
    assert answer("POST")["added"] is False
    assert ask(node, path, "POST", b'{"force": true}', Content_Type="text/plain")[0] == 415, "as a page may send it"
    assert ask(node, path, "POST", Host="evil.example")[0] == 421
    assert ask(node, path, "POST", Origin="http://evil.example")[0] == 403
    assert answer("POST", b'{"force": true}')["added"] is True
    wait_until(lambda: json.loads(ask(node, "/glionode/status")[1])["jobs"]["segmented"] == 1, "once more")
    assert ask(node, "/glionode/studies/" + "-".join(["0" * 8] * 5))[0] == 404
    node.end()
    assert "callback raised" not in caplog.text


def test_the_command_line_refuses_contradictions(tmp_path: Path) -> None:
    config = tmp_path / "glionode.toml"
    config.write_text("")
    status, said = run(config, "serve", "--plugin-config", str(tmp_path / "orthanc.json"))
    assert (status, "--plugin" in said) == (64, True)
