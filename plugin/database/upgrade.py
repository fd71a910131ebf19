"""Bring a database up to date when a process begins to serve, and keep a copy of the embedded one from before."""

import logging
import shutil
import subprocess

from pipeline.atomic_write import sync_folder
from plugin.database.embedded_postgres import EmbeddedPostgres
from plugin.database.pool import Database
from plugin.database.schema import SCHEMA_VERSION, SchemaState, is_current, migrate, read_schema, require_schema
from plugin.errors import DatabaseUnavailable

_LOG = logging.getLogger(__name__)

_ROOM_BYTES = 256 << 20
"""What is left for the migration itself."""


def prepare_schema(database: Database, owns: bool) -> None:
    """Bring the tables up to date where this process receives; else require that they are. Raises DatabaseUnavailable.

    Whichever process comes first may create them.
    """
    with database.pool.connection() as connection:
        state, current = read_schema(connection), is_current(connection)
    if not owns and state.version:
        require_schema(database.pool, alone=False)
        return
    if database.server is not None and state.version and not current and state.oldest_program <= SCHEMA_VERSION:
        _keep_copy(database.server, state)
    migrate(database.pool, alone=database.embedded)


def _keep_copy(server: EmbeddedPostgres, state: SchemaState) -> None:
    """Copy the files of the server, stopped meanwhile, to `before-schema-<version>`; drop earlier copies."""
    with server.stopped() as cluster:
        copy = cluster.with_name(f"before-schema-{SCHEMA_VERSION}")
        part = copy.with_name(f"{copy.name}.part")
        size = sum(path.lstat().st_size for path in cluster.rglob("*"))
        free = shutil.disk_usage(cluster).free
        if free < size + _ROOM_BYTES:
            raise DatabaseUnavailable(
                f"Before the database is brought from schema {state.version} to {SCHEMA_VERSION}, a copy of it is kept "
                f"for the way back. That needs {size + _ROOM_BYTES >> 20} MB in {cluster.parent}, and {free >> 20} MB "
                "are free. Free some space, or start the version that ran before."
            )
        shutil.rmtree(part, ignore_errors=True)
        # PostgreSQL may run as another user, whose files they stay.
        done = subprocess.run(
            ["cp", "-a", "--reflink=auto", cluster, part], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            shutil.rmtree(part, ignore_errors=True)
            raise DatabaseUnavailable(
                f"The database cannot be copied to {copy} before it is brought from schema {state.version} to "
                f"{SCHEMA_VERSION}: {done.stderr.strip()[-200:]} Nothing was changed."
            )
        subprocess.run(["sync", "-f", part], check=False)
        for earlier in cluster.parent.glob("before-schema-*[0-9]"):
            shutil.rmtree(earlier)
        part.rename(copy)
        sync_folder(copy.parent)
    _LOG.info("kept the database as it was with schema %d in %s", state.version, copy)
