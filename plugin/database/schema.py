"""The schema of the database: its migrations, and the function that applies them.

Procrastinate's tables are created beside ours, from its own SQL.
"""

import logging

from procrastinate.schema import SchemaManager
from psycopg_pool import ConnectionPool

from plugin.errors import DatabaseUnavailable

_LOG = logging.getLogger(__name__)

SCHEMA_VERSION = 16
_MIGRATION_LOCK = 0x676C696F  # "glio": advisory lock, so that two nodes do not migrate at the same time

# Each entry migrates the tables from the version before it. Entries are never edited, only added.
_MIGRATIONS = {
    1: """
    CREATE TABLE glionode_jobs (
        key text PRIMARY KEY,
        study_instance_uid text NOT NULL,
        instances_sha256 text NOT NULL,
        model_sha256 text NOT NULL,
        state text NOT NULL,
        reason text,
        attempts integer NOT NULL DEFAULT 0,
        queue_id bigint,
        superseded_by text,
        results_path text,
        created_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz,
        finished_at timestamptz
    );
    CREATE INDEX glionode_jobs_study ON glionode_jobs (study_instance_uid);
    CREATE INDEX glionode_jobs_open ON glionode_jobs (state) WHERE finished_at IS NULL;
    CREATE TABLE glionode_outbox (
        sop_instance_uid text NOT NULL,
        destination text NOT NULL,
        job_key text NOT NULL REFERENCES glionode_jobs (key) ON DELETE CASCADE,
        path text NOT NULL,
        state text NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        last_error text,
        next_try timestamptz NOT NULL DEFAULT now(),
        created_at timestamptz NOT NULL DEFAULT now(),
        sent_at timestamptz,
        PRIMARY KEY (sop_instance_uid, destination)
    );
    CREATE INDEX glionode_outbox_due ON glionode_outbox (destination, next_try) WHERE state IN ('queued', 'failed');
    CREATE TABLE glionode_troubles (
        place text PRIMARY KEY,
        message text NOT NULL,
        at timestamptz NOT NULL DEFAULT now()
    );
    """,
    2: "ALTER TABLE glionode_jobs ADD COLUMN image_count integer;",
    3: "ALTER TABLE glionode_outbox ADD COLUMN retried_at timestamptz;",
    4: "ALTER TABLE glionode_jobs ADD COLUMN purged_at timestamptz;",
    5: "ALTER TABLE glionode_jobs ADD COLUMN trouble text;",
    6: """
    CREATE TABLE glionode_audit (
        id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        at timestamptz NOT NULL DEFAULT now(),
        what text NOT NULL,
        study_instance_uid text NOT NULL,
        job_key text,
        peer_ae_title text,
        peer_address text,
        detail text NOT NULL
    );
    CREATE INDEX glionode_audit_study ON glionode_audit (study_instance_uid, at);
    CREATE INDEX glionode_audit_job ON glionode_audit (job_key);
    """,
    7: """
    ALTER TABLE glionode_outbox ADD COLUMN ask_at timestamptz;
    ALTER TABLE glionode_outbox ADD COLUMN asks integer NOT NULL DEFAULT 0;
    ALTER TABLE glionode_outbox ADD COLUMN committed_at timestamptz;
    CREATE INDEX glionode_outbox_asks ON glionode_outbox (destination, ask_at) WHERE ask_at IS NOT NULL;
    CREATE TABLE glionode_commitments (
        transaction_uid text NOT NULL,
        sop_instance_uid text NOT NULL,
        destination text NOT NULL,
        asked_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (transaction_uid, sop_instance_uid)
    );
    CREATE INDEX glionode_commitments_object ON glionode_commitments (sop_instance_uid, destination);
    """,
    8: """
    ALTER TABLE glionode_jobs ADD COLUMN urgent boolean NOT NULL DEFAULT false;
    ALTER TABLE glionode_jobs ADD COLUMN images_sha256 text;
    ALTER TABLE glionode_jobs ADD COLUMN same_as text;
    ALTER TABLE glionode_jobs ADD COLUMN reports jsonb;
    """,
    9: "ALTER TABLE glionode_outbox ADD COLUMN sop_class_uid text;",
    10: """
    ALTER TABLE glionode_jobs ADD COLUMN source text NOT NULL DEFAULT 'own';
    ALTER TABLE glionode_jobs ADD COLUMN marked_at timestamptz;
    CREATE INDEX glionode_jobs_unmarked ON glionode_jobs (finished_at)
        WHERE source = 'orthanc' AND (marked_at IS NULL OR marked_at < finished_at);
    """,
    11: """
    CREATE TABLE glionode_plugin_changes (
        seq bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        change_type integer NOT NULL,
        level integer NOT NULL,
        resource text NOT NULL,
        at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX glionode_plugin_changes_resource ON glionode_plugin_changes (resource);
    CREATE TABLE glionode_plugin_seen (
        resource text PRIMARY KEY,
        origin integer NOT NULL,
        ae_title text NOT NULL,
        address text NOT NULL
    );
    CREATE TABLE glionode_plugin_stable (
        resource text PRIMARY KEY
    );
    CREATE TABLE glionode_plugin_metadata (
        resource text NOT NULL,
        number integer NOT NULL,
        value text NOT NULL,
        PRIMARY KEY (resource, number)
    );
    CREATE TABLE glionode_plugin_properties (
        number integer PRIMARY KEY,
        value text NOT NULL
    );
    """,
    12: """
    CREATE TABLE glionode_identity (
        id uuid NOT NULL DEFAULT gen_random_uuid()
    );
    INSERT INTO glionode_identity DEFAULT VALUES;
    """,
    13: """
    ALTER TABLE glionode_jobs ADD COLUMN has_result boolean NOT NULL DEFAULT false;
    UPDATE glionode_jobs SET has_result = true WHERE state = 'segmented';
    """,
    14: "ALTER TABLE glionode_outbox ADD COLUMN sha256 text NOT NULL DEFAULT '';",
    15: "ALTER TABLE glionode_jobs ADD COLUMN replacements integer NOT NULL DEFAULT 0;",
    16: """
    ALTER TABLE glionode_jobs ADD COLUMN queued_at timestamptz;
    CREATE INDEX glionode_jobs_failed ON glionode_jobs (finished_at) WHERE state = 'failed';
    CREATE INDEX glionode_outbox_backlog ON glionode_outbox (destination)
        WHERE state IN ('queued', 'failed', 'dead', 'held');
    CREATE INDEX glionode_audit_received ON glionode_audit (at) WHERE what = 'received';
    """,
}


def migrate(pool: ConnectionPool) -> None:
    """Create procrastinate's tables and ours, or bring them up to date. Safe to run in several processes at once.

    Raises:
        DatabaseUnavailable: a newer version of glionode created the tables.
    """
    with pool.connection() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        if connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone() == (None,):
            connection.execute(SchemaManager.get_schema())
        connection.execute("CREATE TABLE IF NOT EXISTS glionode_schema (version integer NOT NULL)")
        row = connection.execute("SELECT max(version) FROM glionode_schema").fetchone()
        version = (row[0] if row else None) or 0
        if version > SCHEMA_VERSION:
            raise DatabaseUnavailable(
                f"A newer glionode created the database (schema {version}, here {SCHEMA_VERSION}); install that one."
            )
        for number in range(version + 1, SCHEMA_VERSION + 1):
            connection.execute(_MIGRATIONS[number])  # type: ignore[call-overload, unused-ignore]
            connection.execute("INSERT INTO glionode_schema VALUES (%s)", (number,))
            _LOG.info("migrated the database to schema version %d", number)
