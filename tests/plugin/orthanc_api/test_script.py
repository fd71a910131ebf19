"""Loading a script that was written for Orthanc, and the configuration that it sees."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.errors import SettingsWrong
from plugin.database.pool import Database
from plugin.orthanc_api.script import loaded_script, read_configuration
from plugin.settings.sections import Settings
from tests.support.hosted_plugin import running


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import orthanc\nx = (\n", "SyntaxError at line 2"),
        ("import orthanc\n\northanc.NoSuchFunction()\n", "AttributeError at line 3"),
        (
            "import no_such_module_anywhere\n",
            "ModuleNotFoundError at line 1 (No module named 'no_such_module_anywhere')",
        ),
        (None, "is not a readable Python file"),
    ],
)
def test_a_script_that_does_not_load_is_reported_with_its_line(tmp_path: Path, text: str | None, said: str) -> None:
    script = tmp_path / "script.py"
    if text is not None:
        script.write_text(text)
    path = list(sys.path)
    with pytest.raises(SettingsWrong) as caught, loaded_script(script, ModuleType("orthanc")):
        pass
    assert said in str(caught.value)
    assert str(script) in str(caught.value)
    assert "orthanc" not in sys.modules
    assert sys.path == path


def test_modules_beside_a_script_can_be_imported_and_replace_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_the_script.py").write_text("ANSWER = 42\n")
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('not this one')\n")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)  # of the standard library, and loaded now at the latest
    script = tmp_path / "script.py"
    script.write_text("import orthanc, beside_the_script, colorsys\northanc.answer = beside_the_script.ANSWER\n")
    module = ModuleType("orthanc")
    with loaded_script(script, module):
        assert module.answer == 42
        with pytest.raises(SettingsWrong, match="one plugin only"), loaded_script(script, ModuleType("orthanc")):
            pass
        assert sys.modules["orthanc"] is module
    del sys.modules["beside_the_script"]


def test_comments_are_ignored_and_the_nodes_own_settings_win(tmp_path: Path) -> None:
    path = tmp_path / "orthanc.json"
    path.write_text(
        """// Orthanc's
        { "Name": "a // b", /* two
        lines */ "DicomAet": "OTHER", "Mine": {"Url": "http://127.0.0.1/*", "Quoted": "\\\\" /* x */}, // the end
        "Last": "\\"//\\"" }
        """
    )
    settings = Settings(listener={"port": 4242}, study={"stable_after_s": 7}, http={"port": 8042})
    assert read_configuration(path, settings) == {
        "Name": "a // b",
        "Mine": {"Url": "http://127.0.0.1/*", "Quoted": "\\"},
        "Last": '"//"',
        "DicomAet": "GLIONODE",
        "DicomPort": 4242,
        "HttpPort": 8042,
        "StableAge": 7.0,
    }
    assert read_configuration(None, settings)["Name"] == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON: "),
        ("[1]", "is no JSON object"),
        (None, "cannot be read (No such file"),
        ('{"UserMetadata": []}', "UserMetadata is not a JSON object"),
        ('{"UserMetadata": {"Mine": 1023}}', "UserMetadata.Mine is not a number from 1024 to 65535"),
        ('{"UserMetadata": {"Mine": true}}', "UserMetadata.Mine is not a number"),
        ('{"UserMetadata": {"LastUpdate": 1024}}', "UserMetadata.LastUpdate uses the name or number of other"),
        ('{"UserMetadata": {"Mine": 1024, "Other": 1024}}', "UserMetadata.Mine uses the name or number of other"),
    ],
)
def test_an_invalid_configuration_is_reported(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "orthanc.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsWrong) as caught:
        read_configuration(path, Settings())
    assert said in str(caught.value)


def test_the_database_is_unavailable_while_a_script_loads(data_dir: Path, database: Database) -> None:
    script = """
import json
import orthanc

NAME = json.loads(orthanc.GetConfiguration())["DicomAet"]
FAILURES = []
for call in (orthanc.RestApiGet, orthanc.LookupPatient, orthanc.GetDicomForInstance):
    try:
        call("/patients")
    except orthanc.OrthancException as exc:
        FAILURES.append(exc.args)
"""
    with running(data_dir, database, script, start=False) as plugin:
        assert plugin.script.NAME == "GLIONODE"
        assert plugin.script.FAILURES == [(2038, "Plugin trying to call the database during its initialization")] * 3


def test_unsupported_functions_raise_and_are_logged(
    data_dir: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with running(data_dir, database, "import orthanc\n", start=False) as plugin:
        with pytest.raises(plugin.orthanc.OrthancException) as caught:
            plugin.orthanc.RegisterFindCallback(lambda *_: None)
        assert caught.value.args == (2, "Not implemented yet")
        plugin.orthanc.LogWarning("said by the plugin")
    assert "orthanc.RegisterFindCallback, which the node does not support" in caplog.text
    assert "said by the plugin" in caplog.text


def test_unsupported_routes_are_logged_once(
    data_dir: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with running(data_dir, database) as plugin:
        rest = plugin.orthanc

        def code(call: Callable[..., object], *arguments: str) -> int:
            with pytest.raises(rest.OrthancException) as caught:
                call(*arguments)
            return int(caught.value.args[0])

        assert code(rest.RestApiGet, "/instances/a-name/preview") == rest.ErrorCode.NOT_IMPLEMENTED
        assert code(rest.RestApiGet, "/instances/another/preview?x=1") == rest.ErrorCode.NOT_IMPLEMENTED
        assert code(rest.RestApiPost, "/tools/create-dicom", "{}") == rest.ErrorCode.NOT_IMPLEMENTED
        for path in ("/nonsense", "/instances/a-name/nonsense", "/tools/create-dicom", "/series/x/protected"):
            assert code(rest.RestApiGet, path) == rest.ErrorCode.UNKNOWN_RESOURCE
    assert [each.getMessage() for each in caplog.records if "does not support" in each.getMessage()] == [
        "the hosted plugin requests GET /instances/{id}/preview, which the node does not support",
        "the hosted plugin requests POST /tools/create-dicom, which the node does not support",
    ]


def test_properties_and_metadata_outlive_the_plugin(data_dir: Path, database: Database) -> None:
    with running(data_dir, database, "import orthanc\n", start=False) as plugin:
        plugin.orthanc.SetGlobalProperty(1024, "kept")
        plugin.orthanc.SetGlobalProperty(1024, json.dumps({"kept": "longer"}))
    with running(data_dir, database, "import orthanc\n", start=False) as plugin:
        assert json.loads(plugin.orthanc.GetGlobalProperty(1024, "")) == {"kept": "longer"}
        with pytest.raises(plugin.orthanc.OrthancException):
            plugin.orthanc.SetGlobalProperty(1023, "the host's own")
