"""Connections to a database."""

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from plugin.database.pool import database_url, open_pool
from plugin.errors import DatabaseUnavailable
from plugin.settings.sections import Settings


def test_a_missing_database_is_reported(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.database.pool._CONNECT_S", 0.2)
    with pytest.raises(DatabaseUnavailable, match="does not answer"), open_pool(f"postgresql:///x?host={data_dir}"):
        pass


def test_options_of_the_settings_win_over_those_of_the_node() -> None:
    url = "postgresql://user:secret@host/db?tcp_user_timeout=7&options=-c%20tcp_keepalives_idle%3D9"
    options = conninfo_to_dict(database_url(Settings(database={"url": url})))
    assert (options["tcp_user_timeout"], options["password"]) == ("7", "secret")
    assert (options["keepalives_idle"], options["connect_timeout"]) == ("5", "5")
    assert str(options["options"]).endswith("-c tcp_keepalives_idle=9"), "the last one counts"
