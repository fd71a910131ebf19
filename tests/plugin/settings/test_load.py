"""Settings from file and environment, and the checks of them."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from models.package import IntendedUse
from pipeline.align_settings import AlignSettings
from pipeline.errors import SettingsWrong
from plugin.settings.check import Severity, check_settings
from plugin.settings.destinations import DestinationSettings, OrthancDestinationSettings, StowDestinationSettings
from plugin.settings.load import load_settings
from plugin.settings.sections import SenderSettings, Settings
from tests.support.paths import ROOT

EXAMPLE = ROOT / "orthanc-config" / "glionode.toml"


def write(folder: Path, text: str) -> Path:
    path = folder / "glionode.toml"
    path.write_text(text)
    return path


def errors(settings: Settings) -> list[str]:
    return [f.key for f in check_settings(settings, IntendedUse.RESEARCH) if f.severity is Severity.ERROR]


def test_the_example_shows_every_default() -> None:
    defaults = Settings().model_dump(mode="json")
    assert (defaults.pop("destinations"), defaults["listener"].pop("senders")) == ([], []), "tables are commented out"
    assert tomllib.loads(EXAMPLE.read_text()) == defaults


def test_the_pipeline_gets_what_the_file_says_about_alignment(tmp_path: Path) -> None:
    assert Settings().alignment.for_pipeline() == AlignSettings()
    path = write(tmp_path, "[alignment]\nenabled = false\nmax_rotation_deg = 5\n")
    assert load_settings(path).alignment.for_pipeline() == AlignSettings(enabled=False, max_rotation_deg=5)


def shown_in_comments(after: str) -> dict[str, object]:
    """Return keys and values of a table that is commented out in the example."""
    commented = EXAMPLE.read_text().split(after)[1].split("\n\n")[0].split("[[")[0]
    return tomllib.loads("\n".join(line[2:] for line in commented.splitlines() if re.match(r"# \w+ = ", line)))


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("A DICOM peer:\n# [[destinations]]", DestinationSettings),
        ("STOW-RS):\n# [[destinations]]", StowDestinationSettings),
        ("or what it forwards to:\n# [[destinations]]", OrthancDestinationSettings),
        ("# [[listener.senders]]", SenderSettings),
    ],
)
def test_the_example_shows_every_key_of_a_table(place: str, kind: type[BaseModel]) -> None:
    shown = shown_in_comments(place)
    assert set(shown) == set(kind.model_fields)
    optional = {key: field.default for key, field in kind.model_fields.items() if not field.is_required()}
    examples = {"networks", "host", "port"} if kind is SenderSettings else set()
    assert {key: shown[key] for key in optional.keys() - examples} == {
        key: optional[key] for key in optional.keys() - examples
    }


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, '[listener]\nport = 104\nae_title = "SITE"\n')
    monkeypatch.setenv("GLIONODE_LISTENER__PORT", "105")
    monkeypatch.setenv("GLIONODE_LISTENER__CALLING_AE_TITLES", '["SCANNER"]')
    listener = load_settings(path).listener
    assert (listener.port, listener.ae_title, listener.calling_ae_titles) == (105, "SITE", ("SCANNER",))


def test_a_variable_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIONODE_CONFIG", str(write(tmp_path, "[study]\nstable_after_s = 5\n")))
    assert load_settings().study.stable_after_s == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[listener]\nhost = '127.0.0.1'\nprot = 104\n", "line 3: listener.prot is no setting"),
        ("[lisener]\nport = 104\n", "line 1: lisener is no setting"),
        ("[listener]\nport = 'x'\n", "line 2: listener.port: Input should be a valid integer"),
        ("[listener]\nae_title = 'much too long for this'\n", "line 2: listener.ae_title: an AE title has 1 to 16"),
        ("[[destinations]]\nname='a'\nae_title='A'\nhost='h'\nport=1\n[[destinations]]\nname='b'\n", "line 6"),
        ("[[listener.senders]]\nnetworks=['10.0.0.0/8']\n", "line 1: listener.senders.0.ae_title is missing"),
        ("[[listener.senders]]\nae_title='A'\nnetworks=['10.0.0.1/8']\n", "line 3: listener.senders.0.networks.0: 10."),
        ("[alignment]\nmin_overlap = 1.1\n", "line 2: alignment.min_overlap: Input should be less than"),
        ("[listener\n", "is not valid TOML"),
    ],
)
def test_an_error_names_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsWrong, match=re.escape(said)):
        load_settings(write(tmp_path, text))


def test_a_file_that_names_the_engine_of_earlier_versions_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, '[compute]\ndevice = "cpu"\ncpu_engine = "openvino"\n')
    assert load_settings(path).compute.device == "cpu"
    assert "compute.cpu_engine has no effect any more" in caplog.text
    monkeypatch.setenv("GLIONODE_COMPUTE__CPU_ENGINE", "torch")
    assert load_settings().compute.precision == "auto"


@pytest.mark.parametrize("variable", ["GLIONODE_LISTNER__PORT", "GLIONODE_LISTENER__PROT", "GLIONODE_PORT"])
def test_an_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "104")
    with pytest.raises(SettingsWrong, match="is no setting"):
        load_settings()


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsWrong, match="cannot be read"):
        load_settings(tmp_path / "absent.toml")


def test_two_destinations_of_one_name_are_an_error(tmp_path: Path) -> None:
    one = "[[destinations]]\nname='a'\nae_title='A'\nhost='h'\nport=1\n"
    with pytest.raises(SettingsWrong, match="is used twice"):
        load_settings(write(tmp_path, one + one))


@pytest.mark.parametrize(
    ("listener", "refused"),
    [
        ({"host": "127.0.0.1"}, False),
        ({"host": "localhost"}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": ""}, True),
        ({"host": "pacs.example"}, True),
        ({"host": "0.0.0.0", "insecure": True}, False),
        ({"host": "0.0.0.0", "calling_ae_titles": ["SCANNER"]}, False),
        ({"host": "0.0.0.0", "senders": [{"ae_title": "SCANNER"}]}, False),
        ({"host": "0.0.0.0", "tls_certificate": "c", "tls_key": "k"}, True),
        ({"host": "0.0.0.0", "tls_certificate": "c", "tls_key": "k", "tls_client_ca": "a"}, False),
    ],
)
def test_an_address_beyond_loopback_needs_a_restriction_of_senders(listener: dict[str, object], refused: bool) -> None:
    assert (errors(Settings(listener=listener)) == ["listener.host"]) is refused


@pytest.mark.parametrize(
    ("listener", "refused"),
    [
        ({"tls_certificate": "c"}, ["listener.tls_key"]),
        ({"tls_key": "k"}, ["listener.tls_key"]),
        ({"tls_client_ca": "a"}, ["listener.tls_client_ca"]),
        ({"tls_client_ca": "a", "tls_certificate": "c", "tls_key": "k"}, []),
    ],
)
def test_contradictory_tls_settings_of_the_listener_are_errors(listener: dict[str, object], refused: list[str]) -> None:
    assert errors(Settings(listener=listener)) == refused


@pytest.mark.parametrize(
    ("tls", "refused"),
    [
        ({"tls": True}, []),
        ({"tls": True, "tls_certificate": "c"}, ["destinations.pacs.tls_key"]),
        ({"tls_ca": "a"}, ["destinations.pacs.tls"]),
        ({"tls_server_name": "pacs.example"}, ["destinations.pacs.tls"]),
    ],
)
def test_contradictory_tls_settings_of_a_destination_are_errors(tls: dict[str, object], refused: list[str]) -> None:
    destination = {"name": "pacs", "ae_title": "PACS", "host": "h", "port": 1, **tls}
    assert errors(Settings(destinations=[destination])) == refused


@pytest.mark.parametrize(
    ("intended_use", "accepts", "warned"),
    [
        (IntendedUse.DEMONSTRATION, False, True),
        (None, False, True),
        (IntendedUse.DEMONSTRATION, True, False),
        (IntendedUse.RESEARCH, False, False),
    ],
)
def test_results_of_a_demonstration_are_sent_only_where_they_are_accepted(
    intended_use: IntendedUse | None, accepts: bool, warned: bool
) -> None:
    destination = {"name": "pacs", "ae_title": "PACS", "host": "h", "port": 1, "accepts_demonstration": accepts}
    findings = check_settings(Settings(destinations=[destination]), intended_use)
    assert [finding.key for finding in findings] == (["destinations.pacs"] if warned else [])


@pytest.mark.parametrize(
    ("sections", "warned"),
    [
        ({"listener": {"max_associations": 4, "max_associations_per_peer": 5}}, ["listener.max_associations_per_peer"]),
        ({"listener": {"max_associations": 4, "max_associations_per_peer": 4}}, []),
        ({"storage": {"minimum_free_mb": 100, "purge_below_mb": 100}}, ["storage.purge_below_mb"]),
        ({"storage": {"minimum_free_mb": 100, "purge_below_mb": 101}}, []),
        ({"storage": {"minimum_free_mb": 100, "purge_below_mb": 0}}, []),
        ({"listener": {"calling_ae_titles": ["A"], "urgent_ae_titles": ["A", "B"]}}, ["listener.urgent_ae_titles"]),
        ({"listener": {"senders": [{"ae_title": "A"}], "urgent_ae_titles": ["A"]}}, []),
        ({"listener": {"urgent_ae_titles": ["A"]}}, []),
        ({"alignment": {"enabled": False}}, ["alignment.enabled"]),
    ],
)
def test_limits_without_effect_are_warnings(sections: dict[str, object], warned: list[str]) -> None:
    found = [each for each in check_settings(Settings(**sections), None) if each.key != "destinations"]
    assert [each.key for each in found] == warned
    assert {each.severity for each in found} <= {Severity.WARNING}


def test_reading_settings_imports_no_dicom_and_no_database_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys, plugin.settings.sections; print(sorted({'pynetdicom', 'pydicom', 'psycopg'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("outputs", "refused"),
    [
        ({}, []),
        ({"seg_on": ["FLAIR"]}, ["outputs.measurements"]),
        ({"seg_on": ["FLAIR"], "measurements": False}, []),
        ({"seg_on": [], "measurements": False, "diameters": False, "capture": False}, ["outputs"]),
    ],
)
def test_contradictory_outputs_are_errors(outputs: dict[str, object], refused: list[str]) -> None:
    assert errors(Settings.model_validate({"outputs": outputs})) == refused


WEB = {"name": "web", "url": "https://pacs.example/dicom-web"}


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        ({}, []),
        ({"url": "http://127.0.0.1:8042/dicom-web", "token_file": "t"}, []),
        ({"url": "http://pacs.example", "token_file": "t"}, ["destinations.web.url"]),
        ({"url": "http://pacs.example", "tls_ca": "a"}, ["destinations.web.url"]),
        ({"user": "u"}, ["destinations.web.user"]),
        ({"password_file": "p"}, ["destinations.web.user"]),
        ({"user": "u", "password_variable": "P"}, []),
        ({"token_file": "t", "token_variable": "T"}, ["destinations.web"]),
        ({"tls_certificate": "c"}, ["destinations.web.tls_key"]),
    ],
)
def test_contradictory_settings_of_a_web_destination_are_errors(keys: dict[str, object], refused: list[str]) -> None:
    assert errors(Settings(destinations=[{**WEB, **keys}])) == refused


@pytest.mark.parametrize("url", ["ftp://h", "https://", "https://user:secret@h", "https://h/?q", "https://h:x", "h"])
def test_a_malformed_url_is_an_error(tmp_path: Path, url: str) -> None:
    path = write(tmp_path, f"[[destinations]]\nname = 'web'\nurl = '{url}'\n")
    with pytest.raises(SettingsWrong, match=r"line 3.*destinations\.0\.url: a URL is written") as raised:
        load_settings(path)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("url = 'https://h'\nport = 1", "line 4: destinations.0.port is no setting"),
        ("ae_title = 'A'\nhost = 'h'", "line 1: destinations.0.port is missing"),
    ],
)
def test_each_kind_of_destination_has_its_own_keys(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(SettingsWrong) as raised:
        load_settings(write(tmp_path, f"[[destinations]]\nname = 'd'\n{table}\n"))
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("listener", "found"),
    [
        ({}, []),
        ({"calling_ae_titles": ["PACS"]}, []),
        ({"senders": [{"ae_title": "PACS"}]}, []),
        ({"senders": [{"ae_title": "MR"}]}, ["destinations.pacs.storage_commitment"]),
        ({"senders": [{"ae_title": "PACS", "host": "h"}]}, ["listener.senders"]),
        ({"senders": [{"ae_title": "PACS", "tls": True}]}, ["listener.senders"]),
    ],
)
def test_settings_that_keep_commitment_reports_out_are_reported(listener: dict[str, object], found: list[str]) -> None:
    destination = {"name": "pacs", "ae_title": "PACS", "host": "h", "port": 1, "storage_commitment": True}
    settings = Settings(listener=listener, destinations=[destination])
    assert [finding.key for finding in check_settings(settings, IntendedUse.RESEARCH)] == found


TOKEN_HERE = {"token_variable": "SITE_TOKEN"}


@pytest.mark.parametrize(
    ("http", "refused"),
    [
        ({"enabled": True}, []),
        ({"enabled": True, "host": "0.0.0.0"}, ["http.host"]),
        ({"host": "0.0.0.0"}, []),
        ({"enabled": True, "host": "0.0.0.0", "insecure": True}, []),
        ({"enabled": True, "host": "0.0.0.0", "tls_certificate": "c", "tls_key": "k"}, []),
        ({"tls_certificate": "c"}, ["http.tls_key"]),
        ({"token_file": "t", **TOKEN_HERE}, ["http.token_variable"]),
        ({"archive_url": "https://archive:8114"}, ["http.archive_url"]),
        ({"archive_url": "https://archive:8114", **TOKEN_HERE}, []),
        ({"archive_url": "http://archive:8114", **TOKEN_HERE}, ["http.archive_url"]),
        ({"archive_url": "http://archive:8114", "insecure": True, **TOKEN_HERE}, []),
        ({"archive_url": "http://127.0.0.1:8114", **TOKEN_HERE}, []),
        ({"archive_url": "http://[::1]:8114", **TOKEN_HERE}, []),
    ],
)
def test_http_beyond_loopback_needs_tls_or_permission(http: dict[str, object], refused: list[str]) -> None:
    assert errors(Settings(http=http)) == refused


ANYONE = "anyone who reaches this port may read and delete patients"


@pytest.mark.parametrize(
    ("http", "severities"),
    [
        ({}, []),
        ({"allow_without_token": ANYONE}, ["warning"]),
        ({"allow_without_token": ANYONE, **TOKEN_HERE}, ["warning"]),
        ({"allow_without_token": ANYONE, "host": "192.0.2.1"}, ["error"]),
    ],
)
def test_routes_without_a_token_are_reported(http: dict[str, object], severities: list[str]) -> None:
    findings = check_settings(Settings(http=http), None)
    assert [f.severity.value for f in findings if f.key == "http.allow_without_token"] == severities


def test_nothing_less_than_the_sentence_opens_routes(tmp_path: Path) -> None:
    with pytest.raises(SettingsWrong, match=r"line 2: http\.allow_without_token: .*may read and delete patients"):
        load_settings(write(tmp_path, "[http]\nallow_without_token = true\n"))


@pytest.mark.parametrize("host", ["*", "*.example", "node.example:8114", "http://node.example", "", "[::1]"])
def test_allowed_hosts_are_names_and_addresses(host: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsWrong, match=r"http\.allowed_hosts\.1: a host is a name"):
        load_settings(write(tmp_path, f"[http]\nallowed_hosts = ['node.example', '{host}']\n"))


def test_names_of_a_server_on_the_network_have_to_be_listed() -> None:
    def found(http: dict[str, object]) -> list[str]:
        findings = check_settings(Settings(http={"enabled": True, "insecure": True, **http}), None)
        return [finding.key for finding in findings if finding.key == "http.allowed_hosts"]

    assert found({"host": "0.0.0.0"}) == ["http.allowed_hosts"]
    assert found({"host": "0.0.0.0", "allowed_hosts": ["node.example"]}) == found({}) == []


@pytest.mark.parametrize("url", ["archive:8114", "ftp://archive", "https://user@archive", "https://archive/api"])
def test_the_archive_url_has_a_host_and_no_path(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsWrong, match=r"line 2: http\.archive_url"):
        load_settings(write(tmp_path, f"[http]\narchive_url = '{url}'\n"))


ORTHANC = {"url": "http://127.0.0.1:8042"}


@pytest.mark.parametrize(
    ("orthanc", "destination", "refused"),
    [
        (ORTHANC, {}, []),
        ({}, {}, ["destinations.o.via"]),
        (ORTHANC, {"modality": "PACS", "storage_commitment": True}, []),
        (ORTHANC, {"modality": "PACS", "peer": "other"}, ["destinations.o.peer"]),
        (ORTHANC, {"peer": "other", "storage_commitment": True}, ["destinations.o.storage_commitment"]),
        ({**ORTHANC, "user": "u"}, {}, ["orthanc.user"]),
        ({**ORTHANC, "user": "u", "password_file": "f", "password_variable": "v"}, {}, ["orthanc.user"]),
        ({**ORTHANC, "tls_ca": "a"}, {}, ["orthanc.tls_ca"]),
        ({"url": "https://pacs.example", "tls_certificate": "c"}, {}, ["orthanc.tls_key"]),
        ({"url": "http://pacs.example:8042"}, {}, ["orthanc.url"]),
    ],
)
def test_contradictory_settings_of_orthanc_are_errors(
    orthanc: dict[str, object], destination: dict[str, object], refused: list[str]
) -> None:
    through = {"name": "o", "via": "orthanc", **destination}
    assert errors(Settings.model_validate({"orthanc": orthanc, "destinations": [through]})) == refused


def test_missing_counterparts_of_orthanc_are_warnings() -> None:
    said = {f.text for f in check_settings(Settings.model_validate({"orthanc": ORTHANC}), None) if "orthanc" in f.key}
    assert len(said) == 2, "nobody can submit studies, and results do not go back"
    http = {"enabled": True, "token_file": "t"}
    through = {"name": "o", "via": "orthanc"}
    whole = Settings.model_validate({"orthanc": ORTHANC, "http": http, "destinations": [through]})
    assert not [f for f in check_settings(whole, IntendedUse.RESEARCH) if "orthanc" in f.key]
