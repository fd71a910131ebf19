"""The migrations, on a real PostgreSQL."""

import psycopg
import pytest
from psycopg import conninfo

from plugin.database.pool import Database, open_pool
from plugin.database.schema import SCHEMA_VERSION, migrate
from plugin.errors import DatabaseUnavailable
from plugin.jobs.job import Job
from plugin.jobs.queue import JobQueue
from tests.support.node import query


def test_the_schema_is_migrated_once_and_a_newer_one_is_refused(database: Database) -> None:
    migrate(database.pool)
    with database.pool.connection() as connection:
        row = connection.execute("SELECT max(version) FROM glionode_schema").fetchone()
        connection.execute("INSERT INTO glionode_schema VALUES (%s)", (SCHEMA_VERSION + 1,))
    try:
        assert row == (SCHEMA_VERSION,)
        with pytest.raises(DatabaseUnavailable, match="newer glionode"):
            migrate(database.pool)
    finally:
        query(database, "DELETE FROM glionode_schema WHERE version > %s", SCHEMA_VERSION)


def test_the_first_schema_version_is_migrated(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS older")
        connection.execute("CREATE DATABASE older")
    with open_pool(conninfo.make_conninfo(database.url, dbname="older")) as pool:
        with monkeypatch.context() as first:
            first.setattr("plugin.database.schema.SCHEMA_VERSION", 1)
            migrate(pool)
        with pool.connection() as connection:
            connection.execute(
                "INSERT INTO glionode_jobs (key, study_instance_uid, instances_sha256, model_sha256, state) "
                "VALUES ('k', '1.2', 'i', 'm', 'queued')"
            )
        migrate(pool)
        assert JobQueue(Database(database.url, pool, True)).find("k") == Job("k", "1.2", "i", "m")
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE older")
