"""The rows of the index of the archive: one for each received instance, and how far each study is indexed and queued.

The files are the truth of what was received: rows follow them, see `plugin.jobs.archive_index`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plugin.archive.store import InstanceKey
from plugin.database.pool import Connection


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """A received instance."""

    key: InstanceKey
    sop_class_uid: str
    size_bytes: int
    sha256: str
    """Of the file as it was received, hexadecimal; empty where that was not recorded."""
    received_at: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class StudyMarks:
    """How far a study has come, by hashes of what `plugin.jobs.archive_index.mark` was given."""

    indexed: str = ""
    """With these folders, each file of the study had its row."""
    settled: str = ""
    """With these folders and this urgency, the study had its job."""


def upsert(connection: Connection, rows: Iterable[InstanceRow]) -> None:
    """Insert rows, in place of those with the same keys."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO glionode_instances (study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid, "
            "size_bytes, sha256, received_at) VALUES (%s, %s, %s, %s, %s, %s, to_timestamp(%s)) "
            "ON CONFLICT (study_instance_uid, series_instance_uid, sop_instance_uid) DO UPDATE SET "
            "sop_class_uid = excluded.sop_class_uid, size_bytes = excluded.size_bytes, sha256 = excluded.sha256, "
            "received_at = excluded.received_at",
            [
                (*_values(row.key), row.sop_class_uid, row.size_bytes, row.sha256, row.received_at)
                for row in sorted(rows, key=lambda row: _values(row.key))  # two writers in one order: no deadlock
            ],
        )


def of_study(connection: Connection, study: str) -> dict[InstanceKey, InstanceRow]:
    """Return the rows of a study."""
    return {row.key: row for row in _select(connection, "study_instance_uid = %s", study)}


def find(connection: Connection, sop_instance_uids: Sequence[str]) -> list[InstanceRow]:
    """Return the rows of these instances; a UID can be there twice, in two series."""
    return _select(connection, "sop_instance_uid = ANY(%s)", list(sop_instance_uids))


def received_sha256(connection: Connection, key: InstanceKey) -> str:
    """Return the digest of an instance's file as it was received; empty where it is not known."""
    row = connection.execute(
        "SELECT sha256 FROM glionode_instances "
        "WHERE study_instance_uid = %s AND series_instance_uid = %s AND sop_instance_uid = %s",
        _values(key),
    ).fetchone()
    return str(row[0]) if row is not None else ""


def delete(connection: Connection, keys: Iterable[InstanceKey]) -> None:
    """Delete the rows of instances that were removed on purpose."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "DELETE FROM glionode_instances "
            "WHERE study_instance_uid = %s AND series_instance_uid = %s AND sop_instance_uid = %s",
            [_values(key) for key in keys],
        )


def delete_study(connection: Connection, study: str) -> None:
    """Delete all rows of a study that was removed on purpose."""
    for table in ("glionode_instances", "glionode_archive_studies"):
        connection.execute(f"DELETE FROM {table} WHERE study_instance_uid = %s", (study,))  # type: ignore[arg-type, unused-ignore]


def read_marks(connection: Connection) -> dict[str, StudyMarks]:
    """Return how far each study has come."""
    rows = connection.execute("SELECT study_instance_uid, indexed, settled FROM glionode_archive_studies").fetchall()
    return {study: StudyMarks(indexed, settled) for study, indexed, settled in rows}


def read_mark(connection: Connection, study: str) -> StudyMarks:
    """Return how far a study has come."""
    row = connection.execute(
        "SELECT indexed, settled FROM glionode_archive_studies WHERE study_instance_uid = %s", (study,)
    ).fetchone()
    return StudyMarks(*row) if row is not None else StudyMarks()


def read_studies(connection: Connection) -> set[str]:
    """Return the studies with rows, which takes a look at all rows."""
    rows = connection.execute("SELECT DISTINCT study_instance_uid FROM glionode_instances").fetchall()
    return {study for (study,) in rows}


def write_indexed(connection: Connection, study: str, mark: str) -> None:
    """Record with which folders a study is indexed."""
    connection.execute(
        "INSERT INTO glionode_archive_studies (study_instance_uid, indexed) VALUES (%s, %s) "
        "ON CONFLICT (study_instance_uid) DO UPDATE SET indexed = excluded.indexed",
        (study, mark),
    )


def write_settled(connection: Connection, study: str, mark: str) -> None:
    """Record with which folders and which urgency a study has its job."""
    connection.execute(
        "INSERT INTO glionode_archive_studies (study_instance_uid, settled) VALUES (%s, %s) "
        "ON CONFLICT (study_instance_uid) DO UPDATE SET settled = excluded.settled",
        (study, mark),
    )


def _select(connection: Connection, where: str, value: object) -> list[InstanceRow]:
    rows = connection.execute(
        "SELECT study_instance_uid, series_instance_uid, sop_instance_uid, sop_class_uid, size_bytes, sha256, "  # type: ignore[arg-type, unused-ignore]
        f"extract(epoch FROM received_at) FROM glionode_instances WHERE {where}",
        (value,),
    ).fetchall()
    return [
        InstanceRow(InstanceKey(study, series, instance), sop_class, size, sha256, float(at))
        for study, series, instance, sop_class, size, sha256, at in rows
    ]


def _values(key: InstanceKey) -> tuple[str, str, str]:
    return key.study_instance_uid, key.series_instance_uid, key.sop_instance_uid
