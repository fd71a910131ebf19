"""Tokens and passwords: where they are read from, and that they are never shown."""

from pathlib import Path

import pytest

from pipeline.errors import SettingsWrong
from plugin.settings.destinations import StowDestinationSettings
from plugin.settings.secrets import Credentials, check_credentials, read_credentials
from plugin.settings.sections import Settings
from tests.support.node import run


def web(**keys: object) -> StowDestinationSettings:
    return StowDestinationSettings.model_validate({"name": "web", "url": "https://h", **keys})


def test_without_secrets_credentials_are_empty() -> None:
    assert read_credentials(web(), "destinations.web") == Credentials()


@pytest.mark.parametrize("text", ["", " \n", "two\nlines", "\x00"])
def test_a_malformed_secret_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(
        SettingsWrong, match=r"destinations\.web\.token cannot be used: the file .*token is empty or has more"
    ):
        read_credentials(web(token_file=str(file)), "destinations.web")


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SITE_PASSWORD", raising=False)
    with pytest.raises(SettingsWrong, match="environment variable SITE_PASSWORD is empty"):
        read_credentials(web(user="u", password_variable="SITE_PASSWORD"), "destinations.web")


def test_a_secret_is_not_in_the_repr(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    assert read_credentials(web(token_file=str(file)), "destinations.web") == Credentials(token="s3cret")
    assert "s3cret" not in repr(read_credentials(web(token_file=str(file)), "destinations.web"))
    assert "s3cret" not in repr(read_credentials(web(user="u", password_file=str(file)), "destinations.web"))


def test_secrets_that_others_can_read_are_warnings(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret")
    file.chmod(0o644)
    settings = Settings(destinations=[web(token_file=str(file))])
    assert [finding.text for finding in check_credentials(settings)] == [
        f"Other users can read {file}; change that with `chmod 600`."
    ]
    file.chmod(0o600)
    assert list(check_credentials(settings)) == []
    config = tmp_path / "glionode.toml"
    config.write_text(f"[[destinations]]\nname='web'\nurl='https://h'\ntoken_file='{tmp_path}/absent'\n")
    status, text = run(config, "check-config")
    assert (status, "destinations.web.token cannot be read from the file" in text) == (64, True)


def test_the_token_of_the_archive_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "token"
    settings = Settings(http={"token_file": str(file)})
    assert [finding.key for finding in check_credentials(settings)] == ["http"]
    file.write_text("x" * 15)
    file.chmod(0o640)
    assert ["less than 16 characters" in finding.text for finding in check_credentials(settings)] == [True]
    file.write_text("x" * 16)
    assert [finding.key for finding in check_credentials(settings)] == ["http.token_file"]
    file.chmod(0o600)
    assert list(check_credentials(settings)) == []
