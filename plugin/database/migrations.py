"""The migrations of our tables, by the version of the schema to which each brings them; `schema.py` applies them."""

# Each entry migrates the tables from the version before it. Entries are never edited, only added. They only add, too:
# tables, indexes, and columns that may be left out of an INSERT, so that an older program survives them.
MIGRATIONS = {
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
    17: """
    ALTER TABLE glionode_outbox ADD COLUMN alone boolean NOT NULL DEFAULT false;
    CREATE TABLE glionode_pauses (
        destination text PRIMARY KEY,
        failures integer NOT NULL DEFAULT 1,
        error text NOT NULL,
        since timestamptz NOT NULL DEFAULT now(),
        next_try timestamptz NOT NULL DEFAULT now()
    );
    """,
    18: """
    CREATE TABLE glionode_leases (
        name text PRIMARY KEY,
        owner text NOT NULL,
        session_pid integer NOT NULL,
        session_start timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        turned_at timestamptz NOT NULL DEFAULT now()
    );
    """,
    19: """
    CREATE TABLE glionode_purges (
        name text PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now()
    );
    """,
    # Until now the objects of a job stated when it was queued as the start of the analysis.
    20: """
    ALTER TABLE glionode_jobs ADD COLUMN analysis_started_at timestamptz;
    ALTER TABLE glionode_jobs ADD COLUMN package_sha256 text;
    ALTER TABLE glionode_jobs ADD COLUMN repetition integer NOT NULL DEFAULT 0;
    UPDATE glionode_jobs SET analysis_started_at = created_at WHERE started_at IS NOT NULL OR has_result;
    """,
    21: """
    ALTER TABLE glionode_jobs ADD COLUMN losses integer NOT NULL DEFAULT 0;
    ALTER TABLE glionode_jobs ADD COLUMN result_lost boolean NOT NULL DEFAULT false;
    """,
    22: """
    CREATE TABLE glionode_instances (
        study_instance_uid text NOT NULL,
        series_instance_uid text NOT NULL,
        sop_instance_uid text NOT NULL,
        sop_class_uid text NOT NULL,
        size_bytes bigint NOT NULL,
        sha256 text NOT NULL DEFAULT '',
        received_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (study_instance_uid, series_instance_uid, sop_instance_uid)
    );
    CREATE INDEX glionode_instances_sop ON glionode_instances (sop_instance_uid);
    CREATE TABLE glionode_archive_studies (
        study_instance_uid text PRIMARY KEY,
        indexed text NOT NULL DEFAULT '',
        settled text NOT NULL DEFAULT ''
    );
    """,
    23: """
    CREATE TABLE glionode_unadopted (
        study_instance_uid text PRIMARY KEY,
        noticed_at timestamptz NOT NULL DEFAULT now()
    );
    """,
    24: """
    ALTER TABLE glionode_outbox ADD COLUMN file_sha256 text NOT NULL DEFAULT '';
    ALTER TABLE glionode_outbox ADD COLUMN intended_use text;
    """,
}

BREAKING: frozenset[int] = frozenset()
"""The migrations after which programs for an older schema must not use the database any more."""
FIRST_RELEASED = 15
"""The schema of version 0.1.0."""
PROCRASTINATE_OF_FIRST_RELEASED = "03.04.00_50_post_add_retry_failed_job_procedure.sql"
"""The last migration of procrastinate 3.10, with which version 0.1.0 created its tables, without a note of it."""
