"""The migrations, on a real PostgreSQL."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path

import psycopg
import pytest
from procrastinate.schema import SchemaManager
from psycopg import conninfo
from psycopg_pool import ConnectionPool

from plugin.database import schema
from plugin.database.other_versions import named_conninfo
from plugin.database.pool import Database, database_url, open_pool
from plugin.database.schema import SCHEMA_VERSION, migrate, read_schema, readable_schema, require_schema
from plugin.database.upgrade import prepare_schema
from plugin.errors import DatabaseUnavailable
from plugin.jobs.job import Job, JobState, new_job
from plugin.jobs.outbox import OutboxState
from plugin.jobs.queue import JobQueue
from plugin.node.status import read_status
from plugin.settings.sections import Settings
from tests.support.node import glionode, query

FIRST_RELEASED = 15


@pytest.fixture
def empty(database: Database) -> Iterator[Database]:
    """A database without tables, on the server of the session."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS another")
        connection.execute("CREATE DATABASE another")
    url = conninfo.make_conninfo(database.url, dbname="another", application_name="")
    with open_pool(url) as pool:
        yield Database(url, pool, False)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE another WITH (FORCE)")


@contextmanager
def program_for(version: int) -> Iterator[None]:
    """Let the module be that of a program for another schema."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "SCHEMA_VERSION", version)
        if version > SCHEMA_VERSION:
            added = {version: f"CREATE TABLE glionode_later_{version} (a integer);"}
            patch.setattr(schema, "MIGRATIONS", {**schema.MIGRATIONS, **added})
        yield


def versions(pool: ConnectionPool) -> tuple[int, int]:
    """Return the version of the schema, and the oldest program that may use it."""
    with pool.connection() as connection:
        state = read_schema(connection)
    return state.version, state.oldest_program


def create_as_first_released(database: Database) -> None:
    """Create the tables of version 0.1.0 as that version did, with a job in them."""
    with database.pool.connection() as connection:
        connection.execute(SchemaManager.get_schema())
        connection.execute("CREATE TABLE glionode_schema (version integer NOT NULL)")
        for number in range(1, FIRST_RELEASED + 1):
            connection.execute(schema.MIGRATIONS[number])  # type: ignore[call-overload]
            connection.execute("INSERT INTO glionode_schema VALUES (%s)", (number,))
        connection.execute(
            "INSERT INTO glionode_jobs (key, study_instance_uid, instances_sha256, model_sha256, state) "
            "VALUES ('k', '1.2', 'i', 'm', 'queued')"
        )


def test_the_schema_is_migrated_once(database: Database) -> None:
    migrate(database.pool)
    assert versions(database.pool) == (SCHEMA_VERSION, FIRST_RELEASED)
    require_schema(database.pool)


def test_the_first_schema_version_is_migrated(empty: Database) -> None:
    with program_for(1):
        migrate(empty.pool)
    columns = "key, study_instance_uid, instances_sha256, model_sha256, state"
    query(empty, f"INSERT INTO glionode_jobs ({columns}) VALUES ('k', '1.2', 'i', 'm', 'queued')")
    migrate(empty.pool)
    assert JobQueue(empty).find("k") == Job("k", "1.2", "i", "m")


def test_a_database_of_the_first_release_is_migrated_and_that_release_may_use_it_again(empty: Database) -> None:
    create_as_first_released(empty)
    migrate(empty.pool)
    assert JobQueue(empty).find("k") == Job("k", "1.2", "i", "m")
    assert versions(empty.pool) == (SCHEMA_VERSION, FIRST_RELEASED)
    assert query(empty, "SELECT max(version) FROM glionode_schema") == [(FIRST_RELEASED,)], "all that 0.1.0 looks at"
    with program_for(FIRST_RELEASED):
        require_schema(empty.pool)


def test_a_program_that_a_newer_schema_leaves_behind_says_so(empty: Database) -> None:
    later = SCHEMA_VERSION + 1
    with program_for(later), pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "BREAKING", frozenset({later}))
        migrate(empty.pool)
    assert versions(empty.pool) == (later, later)
    for use in (migrate, require_schema, lambda pool: ExitStack().enter_context(readable_schema(pool))):
        with pytest.raises(DatabaseUnavailable, match=f"has schema {later}.*newer glionode made it"):
            use(empty.pool)


def test_a_command_of_a_newer_version_reads_an_older_database_and_leaves_it(
    empty: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    create_as_first_released(empty)
    monkeypatch.setenv("GLIONODE_DATABASE__URL", empty.url)
    monkeypatch.setenv("GLIONODE_STORAGE__DATA_DIR", str(tmp_path))
    with program_for(SCHEMA_VERSION + 1):
        assert "1.2" not in glionode("jobs", "--json")[1].replace('"study_instance_uid": "1.2"', "")
        assert glionode("show", "k")[0] == 0
        found = read_status(Settings(database={"url": empty.url}, storage={"data_dir": str(tmp_path)}))
        assert (found.jobs, [each.place for each in found.troubles]) == ({"queued": 1}, ["database"])
        assert "has schema 15" in found.troubles[0].message
        status, text = glionode("cancel", "k")
    assert (status, "has schema 15" in text, "`glionode listen`" in text) == (1, True, True)
    assert versions(empty.pool) == (FIRST_RELEASED, FIRST_RELEASED)
    assert query(empty, "SELECT to_regclass('glionode_schema_migrations')::text") == [(None,)]


def test_a_command_that_needs_what_an_older_database_lacks_says_so(empty: Database) -> None:
    create_as_first_released(empty)
    with (
        program_for(SCHEMA_VERSION + 1),
        pytest.raises(DatabaseUnavailable, match=f"has schema 15.*for schema {SCHEMA_VERSION + 1}"),
        readable_schema(empty.pool),
    ):
        query(empty, "SELECT nothing_yet FROM glionode_jobs")
    migrate(empty.pool)
    with pytest.raises(psycopg.errors.UndefinedTable), readable_schema(empty.pool):  # a fault that no upgrade mends
        query(empty, "SELECT 1 FROM glionode_nothing")


def test_a_database_without_tables_is_none_to_read(empty: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="no tables of glionode yet"), readable_schema(empty.pool):
        pass


def older_of_now(url: str) -> psycopg.Connection:
    return psycopg.connect(named_conninfo(url, "0.9", FIRST_RELEASED - 1))


def older_archive(url: str) -> psycopg.Connection:
    connection = psycopg.connect(conninfo.make_conninfo(url, application_name="glionode listen"), autocommit=True)
    connection.execute("SELECT pg_advisory_lock(1735158113)")
    return connection


def older_deliverer(url: str) -> psycopg.Connection:
    connection = psycopg.connect(conninfo.make_conninfo(url, application_name=""), autocommit=True)
    connection.execute("SELECT pg_advisory_lock(hashtext('glionode-deliver'), hashtext('pacs'))")
    return connection


def older_worker(url: str) -> psycopg.Connection:
    connection = psycopg.connect(url, autocommit=True)
    connection.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
    return connection


@pytest.mark.parametrize("hold", [older_of_now, older_archive, older_deliverer, older_worker])
def test_nothing_is_migrated_while_an_older_process_uses_the_database(
    empty: Database, monkeypatch: pytest.MonkeyPatch, hold: object
) -> None:
    create_as_first_released(empty)
    assert callable(hold)
    with hold(empty.url) as connection, program_for(SCHEMA_VERSION + 1), monkeypatch.context() as impatient:
        impatient.setattr(schema, "_OTHERS_END_WITHIN_S", 0.0)
        with pytest.raises(DatabaseUnavailable, match="still used by"):
            migrate(empty.pool)
        assert versions(empty.pool) == (FIRST_RELEASED, FIRST_RELEASED)
        connection.execute("DELETE FROM procrastinate_workers")
    with program_for(SCHEMA_VERSION + 1):
        migrate(empty.pool)
        assert versions(empty.pool) == (SCHEMA_VERSION + 1, FIRST_RELEASED)


def test_no_process_serves_beside_an_older_one_that_went_back(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_schema(empty, owns=False)  # whoever comes first creates the tables
    assert versions(empty.pool) == (SCHEMA_VERSION, FIRST_RELEASED)
    with older_deliverer(empty.url), monkeypatch.context() as impatient:
        impatient.setattr(schema, "_OTHERS_END_WITHIN_S", 0.0)
        for owns in (True, False):
            with pytest.raises(DatabaseUnavailable, match=r"still used by glionode 0\.1\.0"):
                prepare_schema(empty, owns=owns)
        require_schema(empty.pool)  # a command may look at it


def test_a_session_of_somebody_else_holds_up_nothing(empty: Database) -> None:
    create_as_first_released(empty)
    with psycopg.connect(conninfo.make_conninfo(empty.url, application_name="psql")), program_for(SCHEMA_VERSION + 1):
        migrate(empty.pool)


def test_a_table_that_somebody_has_locked_is_reported(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    create_as_first_released(empty)
    monkeypatch.setattr(schema, "_LOCKED_TABLE_S", 1)
    monkeypatch.setattr(schema, "MIGRATIONS", {**schema.MIGRATIONS, 16: "ALTER TABLE glionode_jobs ADD later text;"})
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 16)
    with psycopg.connect(conninfo.make_conninfo(empty.url, application_name="psql")) as other:
        other.execute("SELECT * FROM glionode_jobs")
        with pytest.raises(DatabaseUnavailable, match="another session has locked a table"):
            migrate(empty.pool)
    assert versions(empty.pool) == (FIRST_RELEASED, FIRST_RELEASED)


def test_the_url_of_a_database_carries_the_version_and_no_password_into_errors() -> None:
    url = database_url(Settings(database={"url": "postgresql://user:secret@host/name"}))
    assert re.search(rf"application_name='glionode \S+ schema {SCHEMA_VERSION}'", url)
    with pytest.raises(DatabaseUnavailable) as caught:
        database_url(Settings(database={"url": "postgresql://user:secret@host/name?wrong=%"}))
    assert "secret" not in str(caught.value)


class TestProcrastinate:
    def structure(self, database: Database) -> list[object]:
        """Return the columns, indexes, functions and triggers of procrastinate's tables."""
        return [
            query(
                database,
                "SELECT table_name, column_name, data_type, column_default, is_nullable "
                "FROM information_schema.columns WHERE table_name LIKE 'procrastinate%' ORDER BY 1, 2",
            ),
            query(database, "SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'procrastinate%' ORDER BY 1"),
            query(
                database,
                "SELECT proname, pg_get_function_identity_arguments(oid), prosrc FROM pg_proc "
                "WHERE proname LIKE 'procrastinate%' ORDER BY 1, 2",
            ),
            query(
                database,
                "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname LIKE 'procrastinate%' ORDER BY 1",
            ),
        ]

    def test_its_own_migrations_are_applied_where_they_are_missing(
        self, empty: Database, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = resources.files("procrastinate.sql") / "migrations"
        names = schema._names_of_procrastinate()
        earlier = tuple(name for name in names if name < "03.03")
        with empty.pool.connection() as connection:
            for name in earlier:
                connection.execute((folder / name).read_text())  # type: ignore[call-overload]
            connection.execute(
                "CREATE TABLE glionode_schema_procrastinate (name text PRIMARY KEY, "
                "applied_at timestamptz NOT NULL DEFAULT now())"
            )
            connection.execute("INSERT INTO glionode_schema_procrastinate SELECT unnest(%s::text[])", (list(earlier),))
        assert 0 < len(earlier) < len(names)
        migrate(empty.pool)
        assert self.structure(empty) == self.structure(database)
        assert query(empty, "SELECT name FROM glionode_schema_procrastinate ORDER BY name") == [(n,) for n in names]
        job = new_job("1.2", ["1"], "m")
        assert JobQueue(empty).add(job) == job
        assert JobQueue(empty).start(job.key) == job

    def test_a_missing_one_alone_is_a_reason_to_migrate(self, empty: Database) -> None:
        migrate(empty.pool)
        (name,) = query(
            empty, "DELETE FROM glionode_schema_procrastinate WHERE name LIKE '%%priority_lock%%' RETURNING name"
        )
        migrate(empty.pool)
        assert name in query(empty, "SELECT name FROM glionode_schema_procrastinate")


class TestWhatMayBeAdded:
    """Without these, an older version could not go on with a newer database, and nothing would say so."""

    ADDING = (
        r"ALTER TABLE \w+ ADD (COLUMN )?(?!.*\bNOT NULL\b(?!.*\bDEFAULT\b)).*",
        r"CREATE TABLE .*",
        r"CREATE (UNIQUE )?INDEX .*",
        r"INSERT INTO .*",
        r"UPDATE .*",
    )

    def test_migrations_since_the_first_release_only_add(self) -> None:
        for number, text in schema.MIGRATIONS.items():
            if number <= FIRST_RELEASED or number in schema.BREAKING:
                continue
            for statement in filter(None, (" ".join(part.split()) for part in text.split(";"))):
                assert any(re.fullmatch(form, statement) for form in self.ADDING), (number, statement)

    def test_states_that_the_first_release_does_not_know_break_it(self) -> None:
        jobs = {"queued", "running", "segmented", "unchanged", "not_eligible", "failed", "superseded", "cancelled"}
        objects = {"queued", "sent", "committed", "failed", "dead", "held", "refused", "withdrawn"}
        added = (set(JobState) - jobs) | (set(OutboxState) - objects)
        assert not added or schema.BREAKING, f"a migration that 0.1.0 must not survive is needed for {added}"

    def test_a_new_procrastinate_comes_with_a_migration_that_breaks_older_versions(self) -> None:
        newest = schema._names_of_procrastinate()[-1]
        assert newest == schema.PROCRASTINATE_OF_FIRST_RELEASED or schema.BREAKING, (
            "procrastinate has migrations that version 0.1.0 does not know: add an empty one of ours to BREAKING"
        )
