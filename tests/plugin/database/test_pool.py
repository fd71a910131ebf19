"""Connections to a database."""

from pathlib import Path

import pytest

from plugin.database.pool import open_pool
from plugin.errors import DatabaseUnavailable


def test_a_missing_database_is_reported(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.database.pool._CONNECT_S", 0.2)
    with pytest.raises(DatabaseUnavailable, match="does not answer"), open_pool(f"postgresql:///x?host={data_dir}"):
        pass
