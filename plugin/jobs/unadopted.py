"""The studies that the database does not know though their images or results are on the disk.

They were there before the database was lost, or before the backup that it was restored from was made. Nothing is
computed, sent or purged of them until `glionode adopt`.
"""

from collections.abc import Iterable

import psycopg

from plugin.database.pool import Connection


def hold(connection: Connection, studies: Iterable[str]) -> None:
    """Let studies wait for `glionode adopt`."""
    for study in studies:
        connection.execute(
            "INSERT INTO glionode_unadopted (study_instance_uid) VALUES (%s) ON CONFLICT DO NOTHING", (study,)
        )


def release(connection: Connection, study: str) -> None:
    """Let a study go on as others do."""
    connection.execute("DELETE FROM glionode_unadopted WHERE study_instance_uid = %s", (study,))


def is_held(connection: Connection, study: str) -> bool:
    """Return whether a study waits for `glionode adopt`."""
    found = connection.execute("SELECT 1 FROM glionode_unadopted WHERE study_instance_uid = %s", (study,)).fetchone()
    return found is not None


def held_studies(connection: Connection) -> tuple[str, ...]:
    """Return the studies that wait for `glionode adopt`, sorted."""
    rows = connection.execute("SELECT study_instance_uid FROM glionode_unadopted ORDER BY 1").fetchall()
    return tuple(str(row[0]) for row in rows)


def count_held(connection: psycopg.Connection) -> int:
    """Return how many studies wait for `glionode adopt`."""
    row = connection.execute("SELECT count(*) FROM glionode_unadopted").fetchone()
    return int(row[0]) if row else 0
