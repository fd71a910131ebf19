SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE TYPE public.procrastinate_job_event_type AS ENUM (
    'deferred',
    'started',
    'deferred_for_retry',
    'failed',
    'succeeded',
    'cancelled',
    'abort_requested',
    'aborted',
    'scheduled',
    'retried'
);
CREATE TYPE public.procrastinate_job_status AS ENUM (
    'todo',
    'doing',
    'succeeded',
    'failed',
    'cancelled',
    'aborting',
    'aborted'
);
CREATE TYPE public.procrastinate_job_to_defer_v1 AS (
	queue_name character varying,
	task_name character varying,
	priority integer,
	lock text,
	queueing_lock text,
	args jsonb,
	scheduled_at timestamp with time zone
);
CREATE FUNCTION public.procrastinate_cancel_job_v1(job_id bigint, abort boolean, delete_job boolean) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;
BEGIN
    IF delete_job THEN
        DELETE FROM procrastinate_jobs
        WHERE id = job_id AND status = 'todo'
        RETURNING id INTO _job_id;
    END IF;
    IF _job_id IS NULL THEN
        IF abort THEN
            UPDATE procrastinate_jobs
            SET abort_requested = true,
                status = CASE status
                    WHEN 'todo' THEN 'cancelled'::procrastinate_job_status ELSE status
                END
            WHERE id = job_id AND status IN ('todo', 'doing')
            RETURNING id INTO _job_id;
        ELSE
            UPDATE procrastinate_jobs
            SET status = 'cancelled'::procrastinate_job_status
            WHERE id = job_id AND status = 'todo'
            RETURNING id INTO _job_id;
        END IF;
    END IF;
    RETURN _job_id;
END;
$$;
CREATE FUNCTION public.procrastinate_defer_jobs_v1(jobs public.procrastinate_job_to_defer_v1[]) RETURNS bigint[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    job_ids bigint[];
BEGIN
    WITH inserted_jobs AS (
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
        SELECT (job).queue_name,
               (job).task_name,
               (job).priority,
               (job).lock,
               (job).queueing_lock,
               (job).args,
               (job).scheduled_at
        FROM unnest(jobs) AS job
        RETURNING id
    )
    SELECT array_agg(id) FROM inserted_jobs INTO job_ids;
    RETURN job_ids;
END;
$$;
CREATE FUNCTION public.procrastinate_defer_periodic_job_v2(_queue_name character varying, _lock character varying, _queueing_lock character varying, _task_name character varying, _priority integer, _periodic_id character varying, _defer_timestamp bigint, _args jsonb) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
	_job_id bigint;
	_defer_id bigint;
BEGIN
    INSERT
        INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
        VALUES (_task_name, _periodic_id, _defer_timestamp)
        ON CONFLICT DO NOTHING
        RETURNING id into _defer_id;
    IF _defer_id IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE procrastinate_periodic_defers
        SET job_id = (
            SELECT COALESCE((
                SELECT unnest(procrastinate_defer_jobs_v1(
                    ARRAY[
                        ROW(
                            _queue_name,
                            _task_name,
                            _priority,
                            _lock,
                            _queueing_lock,
                            _args,
                            NULL::timestamptz
                        )
                    ]::procrastinate_job_to_defer_v1[]
                ))
            ), NULL)
        )
        WHERE id = _defer_id
        RETURNING job_id INTO _job_id;
    DELETE
        FROM procrastinate_periodic_defers
        USING (
            SELECT id
            FROM procrastinate_periodic_defers
            WHERE procrastinate_periodic_defers.task_name = _task_name
            AND procrastinate_periodic_defers.periodic_id = _periodic_id
            AND procrastinate_periodic_defers.defer_timestamp < _defer_timestamp
            ORDER BY id
            FOR UPDATE
        ) to_delete
        WHERE procrastinate_periodic_defers.id = to_delete.id;
    RETURN _job_id;
END;
$$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.procrastinate_jobs (
    id bigint NOT NULL,
    queue_name character varying(128) NOT NULL,
    task_name character varying(128) NOT NULL,
    priority integer DEFAULT 0 NOT NULL,
    lock text,
    queueing_lock text,
    args jsonb DEFAULT '{}'::jsonb NOT NULL,
    status public.procrastinate_job_status DEFAULT 'todo'::public.procrastinate_job_status NOT NULL,
    scheduled_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    abort_requested boolean DEFAULT false NOT NULL,
    worker_id bigint,
    CONSTRAINT check_not_todo_abort_requested CHECK ((NOT ((status = 'todo'::public.procrastinate_job_status) AND (abort_requested = true))))
);
CREATE FUNCTION public.procrastinate_fetch_job_v2(target_queue_names character varying[], p_worker_id bigint) RETURNS public.procrastinate_jobs
    LANGUAGE plpgsql
    AS $$
DECLARE
	found_jobs procrastinate_jobs;
BEGIN
    WITH candidate AS (
        SELECT jobs.*
            FROM procrastinate_jobs AS jobs
            WHERE
                -- reject the job if its lock has earlier or higher priority jobs
                NOT EXISTS (
                    SELECT 1
                        FROM procrastinate_jobs AS other_jobs
                        WHERE
                            jobs.lock IS NOT NULL
                            AND other_jobs.lock = jobs.lock
                            AND (
                                -- job with same lock is already running
                                other_jobs.status = 'doing'
                                OR
                                -- job with same lock is waiting and has higher priority (or same priority but was queued first)
                                (
                                    other_jobs.status = 'todo'
                                    AND (
                                        other_jobs.priority > jobs.priority
                                        OR (
                                        other_jobs.priority = jobs.priority
                                        AND other_jobs.id < jobs.id
                                        )
                                    )
                                )
                            )
                )
                AND jobs.status = 'todo'
                AND (target_queue_names IS NULL OR jobs.queue_name = ANY( target_queue_names ))
                AND (jobs.scheduled_at IS NULL OR jobs.scheduled_at <= now())
            ORDER BY jobs.priority DESC, jobs.id ASC LIMIT 1
            FOR UPDATE OF jobs SKIP LOCKED
    )
    UPDATE procrastinate_jobs
        SET status = 'doing', worker_id = p_worker_id
        FROM candidate
        WHERE procrastinate_jobs.id = candidate.id
        RETURNING procrastinate_jobs.* INTO found_jobs;
 RETURN found_jobs;
END;
$$;
CREATE FUNCTION public.procrastinate_finish_job_v1(job_id bigint, end_status public.procrastinate_job_status, delete_job boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;
BEGIN
    IF end_status NOT IN ('succeeded', 'failed', 'aborted') THEN
        RAISE 'End status should be either "succeeded", "failed" or "aborted" (job id: %)', job_id;
    END IF;
    IF delete_job THEN
        DELETE FROM procrastinate_jobs
        WHERE id = job_id AND status IN ('todo', 'doing')
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = end_status,
            abort_requested = false,
            attempts = CASE status
                WHEN 'doing' THEN attempts + 1 ELSE attempts
            END
        WHERE id = job_id AND status IN ('todo', 'doing')
        RETURNING id INTO _job_id;
    END IF;
    IF _job_id IS NULL THEN
        RAISE 'Job was not found or not in "doing" or "todo" status (job id: %)', job_id;
    END IF;
END;
$$;
CREATE FUNCTION public.procrastinate_notify_queue_abort_job_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    payload TEXT;
BEGIN
    SELECT json_build_object('type', 'abort_job_requested', 'job_id', NEW.id)::text INTO payload;
	PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);
	PERFORM pg_notify('procrastinate_any_queue_v1', payload);
	RETURN NEW;
END;
$$;
CREATE FUNCTION public.procrastinate_notify_queue_job_inserted_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    payload TEXT;
BEGIN
    SELECT json_build_object('type', 'job_inserted', 'job_id', NEW.id)::text INTO payload;
	PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);
	PERFORM pg_notify('procrastinate_any_queue_v1', payload);
	RETURN NEW;
END;
$$;
CREATE FUNCTION public.procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat double precision) RETURNS TABLE(worker_id bigint)
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN QUERY
    DELETE FROM procrastinate_workers
    WHERE last_heartbeat < NOW() - (seconds_since_heartbeat || 'SECOND')::INTERVAL
    RETURNING procrastinate_workers.id;
END;
$$;
CREATE FUNCTION public.procrastinate_register_worker_v1() RETURNS TABLE(worker_id bigint)
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN QUERY
    INSERT INTO procrastinate_workers DEFAULT VALUES
    RETURNING procrastinate_workers.id;
END;
$$;
CREATE FUNCTION public.procrastinate_retry_job_v1(job_id bigint, retry_at timestamp with time zone, new_priority integer, new_queue_name character varying, new_lock character varying) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;
    _abort_requested boolean;
BEGIN
    SELECT abort_requested FROM procrastinate_jobs
    WHERE id = job_id AND status = 'doing'
    FOR UPDATE
    INTO _abort_requested;
    IF _abort_requested THEN
        UPDATE procrastinate_jobs
        SET status = 'failed'::procrastinate_job_status
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = 'todo'::procrastinate_job_status,
            attempts = attempts + 1,
            scheduled_at = retry_at,
            priority = COALESCE(new_priority, priority),
            queue_name = COALESCE(new_queue_name, queue_name),
            lock = COALESCE(new_lock, lock)
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    END IF;
    IF _job_id IS NULL THEN
        RAISE 'Job was not found or not in "doing" status (job id: %)', job_id;
    END IF;
END;
$$;
CREATE FUNCTION public.procrastinate_retry_job_v2(job_id bigint, retry_at timestamp with time zone, new_priority integer, new_queue_name character varying, new_lock character varying) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;
    _abort_requested boolean;
    _current_status procrastinate_job_status;
BEGIN
    SELECT status, abort_requested FROM procrastinate_jobs
    WHERE id = job_id AND status IN ('doing', 'failed')
    FOR UPDATE
    INTO _current_status, _abort_requested;
    IF _current_status = 'doing' AND _abort_requested THEN
        UPDATE procrastinate_jobs
        SET status = 'failed'::procrastinate_job_status
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = 'todo'::procrastinate_job_status,
            attempts = attempts + 1,
            scheduled_at = retry_at,
            priority = COALESCE(new_priority, priority),
            queue_name = COALESCE(new_queue_name, queue_name),
            lock = COALESCE(new_lock, lock)
        WHERE id = job_id AND status IN ('doing', 'failed')
        RETURNING id INTO _job_id;
    END IF;
    IF _job_id IS NULL THEN
        RAISE 'Job was not found or has an invalid status to retry (job id: %)', job_id;
    END IF;
END;
$$;
CREATE FUNCTION public.procrastinate_trigger_abort_requested_events_procedure_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type)
        VALUES (NEW.id, 'abort_requested'::procrastinate_job_event_type);
    RETURN NEW;
END;
$$;
CREATE FUNCTION public.procrastinate_trigger_function_scheduled_events_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type, at)
        VALUES (NEW.id, 'scheduled'::procrastinate_job_event_type, NEW.scheduled_at);
	RETURN NEW;
END;
$$;
CREATE FUNCTION public.procrastinate_trigger_function_status_events_insert_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type)
        VALUES (NEW.id, 'deferred'::procrastinate_job_event_type);
	RETURN NEW;
END;
$$;
CREATE FUNCTION public.procrastinate_trigger_function_status_events_update_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    WITH t AS (
        SELECT CASE
            WHEN OLD.status = 'todo'::procrastinate_job_status
                AND NEW.status = 'doing'::procrastinate_job_status
                THEN 'started'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'todo'::procrastinate_job_status
                THEN 'deferred_for_retry'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'failed'::procrastinate_job_status
                THEN 'failed'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'succeeded'::procrastinate_job_status
                THEN 'succeeded'::procrastinate_job_event_type
            WHEN OLD.status = 'todo'::procrastinate_job_status
                AND (
                    NEW.status = 'cancelled'::procrastinate_job_status
                    OR NEW.status = 'failed'::procrastinate_job_status
                    OR NEW.status = 'succeeded'::procrastinate_job_status
                )
                THEN 'cancelled'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'aborted'::procrastinate_job_status
                THEN 'aborted'::procrastinate_job_event_type
            WHEN OLD.status = 'failed'::procrastinate_job_status
                AND NEW.status = 'todo'::procrastinate_job_status
                THEN 'retried'::procrastinate_job_event_type
            ELSE NULL
        END as event_type
    )
    INSERT INTO procrastinate_events(job_id, type)
        SELECT NEW.id, t.event_type
        FROM t
        WHERE t.event_type IS NOT NULL;
	RETURN NEW;
END;
$$;
CREATE FUNCTION public.procrastinate_unlink_periodic_defers_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE procrastinate_periodic_defers
    SET job_id = NULL
    WHERE job_id = OLD.id;
    RETURN OLD;
END;
$$;
CREATE FUNCTION public.procrastinate_unregister_worker_v1(worker_id bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    DELETE FROM procrastinate_workers
    WHERE id = worker_id;
END;
$$;
CREATE FUNCTION public.procrastinate_update_heartbeat_v1(worker_id bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE procrastinate_workers
    SET last_heartbeat = NOW()
    WHERE id = worker_id;
END;
$$;
CREATE TABLE public.glionode_audit (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    what text NOT NULL,
    study_instance_uid text NOT NULL,
    job_key text,
    peer_ae_title text,
    peer_address text,
    detail text NOT NULL
);
ALTER TABLE public.glionode_audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.glionode_audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.glionode_commitments (
    transaction_uid text NOT NULL,
    sop_instance_uid text NOT NULL,
    destination text NOT NULL,
    asked_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.glionode_identity (
    id uuid DEFAULT gen_random_uuid() NOT NULL
);
CREATE TABLE public.glionode_jobs (
    key text NOT NULL,
    study_instance_uid text NOT NULL,
    instances_sha256 text NOT NULL,
    model_sha256 text NOT NULL,
    state text NOT NULL,
    reason text,
    attempts integer DEFAULT 0 NOT NULL,
    queue_id bigint,
    superseded_by text,
    results_path text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    image_count integer,
    purged_at timestamp with time zone,
    trouble text,
    urgent boolean DEFAULT false NOT NULL,
    images_sha256 text,
    same_as text,
    reports jsonb,
    source text DEFAULT 'own'::text NOT NULL,
    marked_at timestamp with time zone,
    has_result boolean DEFAULT false NOT NULL,
    replacements integer DEFAULT 0 NOT NULL
);
CREATE TABLE public.glionode_outbox (
    sop_instance_uid text NOT NULL,
    destination text NOT NULL,
    job_key text NOT NULL,
    path text NOT NULL,
    state text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    last_error text,
    next_try timestamp with time zone DEFAULT now() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    sent_at timestamp with time zone,
    retried_at timestamp with time zone,
    ask_at timestamp with time zone,
    asks integer DEFAULT 0 NOT NULL,
    committed_at timestamp with time zone,
    sop_class_uid text,
    sha256 text DEFAULT ''::text NOT NULL
);
CREATE TABLE public.glionode_plugin_changes (
    seq bigint NOT NULL,
    change_type integer NOT NULL,
    level integer NOT NULL,
    resource text NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE public.glionode_plugin_changes ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.glionode_plugin_changes_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.glionode_plugin_metadata (
    resource text NOT NULL,
    number integer NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.glionode_plugin_properties (
    number integer NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.glionode_plugin_seen (
    resource text NOT NULL,
    origin integer NOT NULL,
    ae_title text NOT NULL,
    address text NOT NULL
);
CREATE TABLE public.glionode_plugin_stable (
    resource text NOT NULL
);
CREATE TABLE public.glionode_schema (
    version integer NOT NULL
);
CREATE TABLE public.glionode_troubles (
    place text NOT NULL,
    message text NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.procrastinate_events (
    id bigint NOT NULL,
    job_id bigint NOT NULL,
    type public.procrastinate_job_event_type,
    at timestamp with time zone DEFAULT now()
);
CREATE SEQUENCE public.procrastinate_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.procrastinate_events_id_seq OWNED BY public.procrastinate_events.id;
CREATE SEQUENCE public.procrastinate_jobs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.procrastinate_jobs_id_seq OWNED BY public.procrastinate_jobs.id;
CREATE TABLE public.procrastinate_periodic_defers (
    id bigint NOT NULL,
    task_name character varying(128) NOT NULL,
    defer_timestamp bigint,
    job_id bigint,
    periodic_id character varying(128) DEFAULT ''::character varying NOT NULL
);
CREATE SEQUENCE public.procrastinate_periodic_defers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.procrastinate_periodic_defers_id_seq OWNED BY public.procrastinate_periodic_defers.id;
CREATE TABLE public.procrastinate_workers (
    id bigint NOT NULL,
    last_heartbeat timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE public.procrastinate_workers ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.procrastinate_workers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
ALTER TABLE ONLY public.procrastinate_events ALTER COLUMN id SET DEFAULT nextval('public.procrastinate_events_id_seq'::regclass);
ALTER TABLE ONLY public.procrastinate_jobs ALTER COLUMN id SET DEFAULT nextval('public.procrastinate_jobs_id_seq'::regclass);
ALTER TABLE ONLY public.procrastinate_periodic_defers ALTER COLUMN id SET DEFAULT nextval('public.procrastinate_periodic_defers_id_seq'::regclass);
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (1, '2024-01-02 18:43:25.778172+00', 'chosen', '1.2.826.0.1.3680043.8.498.10001', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', NULL, NULL, 'T1CE: series 1.2.826.0.1.3680043.8.498.10001.1');
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (2, '2024-01-02 18:43:25.778172+00', 'produced', '1.2.826.0.1.3680043.8.498.10001', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', NULL, NULL, '1.2.826.0.1.3680043.8.498.10001.99.1 (1.dcm)');
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (3, '2024-01-02 18:43:25.778172+00', 'produced', '1.2.826.0.1.3680043.8.498.10001', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', NULL, NULL, '1.2.826.0.1.3680043.8.498.10001.99.2 (2.dcm)');
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (4, '2024-01-02 18:43:25.778172+00', 'ended', '1.2.826.0.1.3680043.8.498.10001', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', NULL, NULL, 'segmented');
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (5, '2024-01-02 18:43:26.230814+00', 'sent', '1.2.826.0.1.3680043.8.498.10001', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', 'PACS', '127.0.0.1:41487', '1.2.826.0.1.3680043.8.498.10001.99.1 to pacs: stored with status 0x0000');
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (6, '2024-01-02 18:43:26.24885+00', 'sent', '1.2.826.0.1.3680043.8.498.10001', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', 'PACS', '127.0.0.1:41487', '1.2.826.0.1.3680043.8.498.10001.99.2 to pacs: stored with status 0x0000');
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (7, '2024-01-02 18:43:24.238885+00', 'received', '1.2.826.0.1.3680043.8.498.10001', NULL, 'SCANNER', '127.0.0.1', '2 new instances');
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (8, '2024-01-02 18:43:26.872033+00', 'ended', '1.2.826.0.1.3680043.8.498.10002', '1.2.826.0.1.3680043.8.498.10002-64c54e2dd270454f', NULL, NULL, 'not_eligible: There is no ADC map.');
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (9, '2024-01-02 18:43:27.382146+00', 'ended', '1.2.826.0.1.3680043.8.498.10003', '1.2.826.0.1.3680043.8.498.10003-be57ba050ee280f2', NULL, NULL, 'failed: An unexpected ValueError in stand_in_segmenter.py line 51: a defect of glionode; please report it.');
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (10, '2024-01-02 18:43:26.348259+00', 'received', '1.2.826.0.1.3680043.8.498.10002', NULL, 'SCANNER', '127.0.0.1', '1 new instances');
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (11, '2024-01-02 18:43:28.890252+00', 'ended', '1.2.826.0.1.3680043.8.498.10005', '1.2.826.0.1.3680043.8.498.10005-de652b2882e74adf', NULL, NULL, 'superseded');
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (12, '2024-01-02 18:43:26.921195+00', 'received', '1.2.826.0.1.3680043.8.498.10003', NULL, 'SCANNER', '127.0.0.1', '2 new instances');
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (13, '2024-01-02 18:43:29.445598+00', 'ended', '1.2.826.0.1.3680043.8.498.10006', '1.2.826.0.1.3680043.8.498.10006-97d407b79e56c266', NULL, NULL, 'cancelled');
INSERT INTO public.glionode_audit OVERRIDING SYSTEM VALUE VALUES (14, '2024-01-02 18:43:29.446909+00', 'ordered', '1.2.826.0.1.3680043.8.498.10006', '1.2.826.0.1.3680043.8.498.10006-97d407b79e56c266', NULL, NULL, 'cancelled');
INSERT INTO public.glionode_identity VALUES ('b3f07492-0b44-45a2-942b-fed1f801bb79');
INSERT INTO public.glionode_jobs VALUES ('1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '1.2.826.0.1.3680043.8.498.10001', 'edd235e389e8b4af3b27b473b645dda09060f5431a0869c8de99d80e91fab558', '0000000000000000000000000000000000000000000000000000000000000000', 'segmented', NULL, 1, 1, NULL, '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8', '2024-01-02 18:43:24.703343+00', '2024-01-02 18:43:25.747692+00', '2024-01-02 18:43:25.778172+00', 2, NULL, NULL, false, NULL, NULL, '[]', 'own', NULL, true, 0);
INSERT INTO public.glionode_jobs VALUES ('1.2.826.0.1.3680043.8.498.10006-97d407b79e56c266', '1.2.826.0.1.3680043.8.498.10006', 'd6c1378421f85c1289179d2dcbf01016063456c5dfa292977546945a9e0928a6', '0000000000000000000000000000000000000000000000000000000000000000', 'cancelled', NULL, 0, 7, NULL, NULL, '2024-01-02 18:43:29.397193+00', NULL, '2024-01-02 18:43:29.445598+00', 2, NULL, NULL, false, NULL, NULL, NULL, 'own', NULL, false, 0);
INSERT INTO public.glionode_jobs VALUES ('unchanged-1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '1.2.826.0.1.3680043.8.498.10007', 'of-purged-images', '0000000000000000000000000000000000000000000000000000000000000000', 'unchanged', 'The chosen images are those of the job before.', 1, NULL, NULL, NULL, '2024-01-02 18:43:29.455597+00', NULL, '2024-01-02 18:43:25.778172+00', 2, '2024-01-02 18:43:29.455597+00', NULL, false, NULL, '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', NULL, 'own', NULL, false, 0);
INSERT INTO public.glionode_jobs VALUES ('1.2.826.0.1.3680043.8.498.10002-64c54e2dd270454f', '1.2.826.0.1.3680043.8.498.10002', 'dd646d34e46cd75fd3899734f86091f83c8dc4c0339cd79e54f817c2ed042b02', '0000000000000000000000000000000000000000000000000000000000000000', 'not_eligible', 'There is no ADC map.', 1, 2, NULL, NULL, '2024-01-02 18:43:26.850671+00', '2024-01-02 18:43:26.869604+00', '2024-01-02 18:43:26.872033+00', 1, NULL, NULL, false, NULL, NULL, NULL, 'own', NULL, false, 0);
INSERT INTO public.glionode_jobs VALUES ('1.2.826.0.1.3680043.8.498.10003-be57ba050ee280f2', '1.2.826.0.1.3680043.8.498.10003', 'e7daec89884b2a787932f93cb1bdd99abd61bb4fa391f0699d868f58ce4ff8a9', '0000000000000000000000000000000000000000000000000000000000000000', 'failed', 'An unexpected ValueError in stand_in_segmenter.py line 51: a defect of glionode; please report it.', 1, 3, NULL, NULL, '2024-01-02 18:43:27.361618+00', '2024-01-02 18:43:27.378613+00', '2024-01-02 18:43:27.382146+00', 2, NULL, NULL, false, NULL, NULL, NULL, 'own', NULL, false, 0);
INSERT INTO public.glionode_jobs VALUES ('1.2.826.0.1.3680043.8.498.10004-d0cac86b7d99e163', '1.2.826.0.1.3680043.8.498.10004', '33ccbbeed0efcd7b268ba25c20a91ba44060a725fb2a9b0d323c44693e41351a', '0000000000000000000000000000000000000000000000000000000000000000', 'running', NULL, 1, 4, NULL, NULL, '2024-01-02 18:43:27.870308+00', '2024-01-02 18:43:27.879262+00', NULL, 2, NULL, NULL, false, NULL, NULL, NULL, 'own', NULL, false, 0);
INSERT INTO public.glionode_jobs VALUES ('1.2.826.0.1.3680043.8.498.10005-de652b2882e74adf', '1.2.826.0.1.3680043.8.498.10005', 'c60b9aacd4f1668e9e58adbdf07748f2cf30de304ff10699d880da5c4ee1110d', '0000000000000000000000000000000000000000000000000000000000000000', 'superseded', NULL, 0, 5, '1.2.826.0.1.3680043.8.498.10005-cfe3abb42d4d0b97', NULL, '2024-01-02 18:43:28.379652+00', NULL, '2024-01-02 18:43:28.890252+00', 2, NULL, NULL, false, NULL, NULL, NULL, 'own', NULL, false, 0);
INSERT INTO public.glionode_jobs VALUES ('1.2.826.0.1.3680043.8.498.10005-cfe3abb42d4d0b97', '1.2.826.0.1.3680043.8.498.10005', 'e566f377a55bf541e6083a9030384f08a814ca1da15e2d7547d7e71d6f8d6fb8', '0000000000000000000000000000000000000000000000000000000000000000', 'queued', NULL, 0, 6, NULL, NULL, '2024-01-02 18:43:28.890252+00', NULL, NULL, 3, NULL, NULL, false, NULL, NULL, NULL, 'own', NULL, false, 0);
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.1', 'pacs', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/1.dcm', 'sent', 1, NULL, '2024-01-02 18:43:25.778172+00', '2024-01-02 18:43:25.778172+00', '2024-01-02 18:43:26.230814+00', NULL, NULL, 0, NULL, NULL, '6f1a1a56be6d589dac795e0c981f35746b42c1ca1169b5af581aed4b7af47afd');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.2', 'pacs', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/2.dcm', 'sent', 1, NULL, '2024-01-02 18:43:25.778172+00', '2024-01-02 18:43:25.778172+00', '2024-01-02 18:43:26.24885+00', NULL, NULL, 0, NULL, NULL, '072dbe677af6e6873b4cff60a6d294a53d40453191758f824fc6bc148d5952ad');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.1', 'away', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/1.dcm', 'failed', 1, 'PACS at 127.0.0.1:33221 cannot be reached', '2024-01-02 18:53:19.374504+00', '2024-01-02 18:43:25.778172+00', NULL, NULL, NULL, 0, NULL, NULL, '6f1a1a56be6d589dac795e0c981f35746b42c1ca1169b5af581aed4b7af47afd');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.2', 'away', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/2.dcm', 'failed', 1, 'PACS at 127.0.0.1:33221 cannot be reached', '2024-01-02 18:53:18.291902+00', '2024-01-02 18:43:25.778172+00', NULL, NULL, NULL, 0, NULL, NULL, '072dbe677af6e6873b4cff60a6d294a53d40453191758f824fc6bc148d5952ad');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.1', 'with-queued', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/1.dcm', 'queued', 1, NULL, '2024-01-02 18:43:29.457604+00', '2024-01-02 18:43:29.457604+00', NULL, NULL, NULL, 0, NULL, NULL, '6f1a1a56be6d589dac795e0c981f35746b42c1ca1169b5af581aed4b7af47afd');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.2', 'with-queued', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/2.dcm', 'queued', 1, NULL, '2024-01-02 18:43:29.457604+00', '2024-01-02 18:43:29.457604+00', NULL, NULL, NULL, 0, NULL, NULL, '072dbe677af6e6873b4cff60a6d294a53d40453191758f824fc6bc148d5952ad');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.1', 'with-committed', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/1.dcm', 'committed', 1, NULL, '2024-01-02 18:43:29.458553+00', '2024-01-02 18:43:29.458553+00', '2024-01-02 18:43:29.458553+00', NULL, NULL, 0, '2024-01-02 18:43:29.458553+00', NULL, '6f1a1a56be6d589dac795e0c981f35746b42c1ca1169b5af581aed4b7af47afd');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.2', 'with-committed', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/2.dcm', 'committed', 1, NULL, '2024-01-02 18:43:29.458553+00', '2024-01-02 18:43:29.458553+00', '2024-01-02 18:43:29.458553+00', NULL, NULL, 0, '2024-01-02 18:43:29.458553+00', NULL, '072dbe677af6e6873b4cff60a6d294a53d40453191758f824fc6bc148d5952ad');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.1', 'with-dead', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/1.dcm', 'dead', 1, 'The peer refuses it.', '2024-01-02 18:43:29.458863+00', '2024-01-02 18:43:29.458863+00', NULL, NULL, NULL, 0, NULL, NULL, '6f1a1a56be6d589dac795e0c981f35746b42c1ca1169b5af581aed4b7af47afd');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.2', 'with-dead', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/2.dcm', 'dead', 1, 'The peer refuses it.', '2024-01-02 18:43:29.458863+00', '2024-01-02 18:43:29.458863+00', NULL, NULL, NULL, 0, NULL, NULL, '072dbe677af6e6873b4cff60a6d294a53d40453191758f824fc6bc148d5952ad');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.1', 'with-held', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/1.dcm', 'held', 1, NULL, '2024-01-02 18:43:29.459075+00', '2024-01-02 18:43:29.459075+00', NULL, NULL, NULL, 0, NULL, NULL, '6f1a1a56be6d589dac795e0c981f35746b42c1ca1169b5af581aed4b7af47afd');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.2', 'with-held', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/2.dcm', 'held', 1, NULL, '2024-01-02 18:43:29.459075+00', '2024-01-02 18:43:29.459075+00', NULL, NULL, NULL, 0, NULL, NULL, '072dbe677af6e6873b4cff60a6d294a53d40453191758f824fc6bc148d5952ad');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.1', 'with-refused', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/1.dcm', 'refused', 1, NULL, '2024-01-02 18:43:29.459462+00', '2024-01-02 18:43:29.459462+00', NULL, NULL, NULL, 0, NULL, NULL, '6f1a1a56be6d589dac795e0c981f35746b42c1ca1169b5af581aed4b7af47afd');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.2', 'with-refused', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/2.dcm', 'refused', 1, NULL, '2024-01-02 18:43:29.459462+00', '2024-01-02 18:43:29.459462+00', NULL, NULL, NULL, 0, NULL, NULL, '072dbe677af6e6873b4cff60a6d294a53d40453191758f824fc6bc148d5952ad');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.1', 'with-withdrawn', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/1.dcm', 'withdrawn', 1, NULL, '2024-01-02 18:43:29.459676+00', '2024-01-02 18:43:29.459676+00', NULL, NULL, NULL, 0, NULL, NULL, '6f1a1a56be6d589dac795e0c981f35746b42c1ca1169b5af581aed4b7af47afd');
INSERT INTO public.glionode_outbox VALUES ('1.2.826.0.1.3680043.8.498.10001.99.2', 'with-withdrawn', '1.2.826.0.1.3680043.8.498.10001-46830f8ddada2cb0', '@DATA_DIR@/results/1.2.826.0.1.3680043.8.498.10001/856db6a0a1f586e5-e7c8b362af564dc8/2.dcm', 'withdrawn', 1, NULL, '2024-01-02 18:43:29.459676+00', '2024-01-02 18:43:29.459676+00', NULL, NULL, NULL, 0, NULL, NULL, '072dbe677af6e6873b4cff60a6d294a53d40453191758f824fc6bc148d5952ad');
INSERT INTO public.glionode_schema VALUES (1);
INSERT INTO public.glionode_schema VALUES (2);
INSERT INTO public.glionode_schema VALUES (3);
INSERT INTO public.glionode_schema VALUES (4);
INSERT INTO public.glionode_schema VALUES (5);
INSERT INTO public.glionode_schema VALUES (6);
INSERT INTO public.glionode_schema VALUES (7);
INSERT INTO public.glionode_schema VALUES (8);
INSERT INTO public.glionode_schema VALUES (9);
INSERT INTO public.glionode_schema VALUES (10);
INSERT INTO public.glionode_schema VALUES (11);
INSERT INTO public.glionode_schema VALUES (12);
INSERT INTO public.glionode_schema VALUES (13);
INSERT INTO public.glionode_schema VALUES (14);
INSERT INTO public.glionode_schema VALUES (15);
INSERT INTO public.procrastinate_events VALUES (7, 4, 'deferred', '2024-01-02 18:43:27.870308+00');
INSERT INTO public.procrastinate_events VALUES (8, 4, 'started', '2024-01-02 18:43:27.876111+00');
INSERT INTO public.procrastinate_events VALUES (9, 5, 'deferred', '2024-01-02 18:43:28.379652+00');
INSERT INTO public.procrastinate_events VALUES (10, 6, 'deferred', '2024-01-02 18:43:28.890252+00');
INSERT INTO public.procrastinate_events VALUES (11, 7, 'deferred', '2024-01-02 18:43:29.397193+00');
INSERT INTO public.procrastinate_jobs VALUES (4, 'segment', 'glionode.segment', 0, '1.2.826.0.1.3680043.8.498.10004', '1.2.826.0.1.3680043.8.498.10004-d0cac86b7d99e163', '{"key": "1.2.826.0.1.3680043.8.498.10004-d0cac86b7d99e163"}', 'doing', NULL, 0, false, 1);
INSERT INTO public.procrastinate_jobs VALUES (5, 'segment', 'glionode.segment', 0, '1.2.826.0.1.3680043.8.498.10005', '1.2.826.0.1.3680043.8.498.10005-de652b2882e74adf', '{"key": "1.2.826.0.1.3680043.8.498.10005-de652b2882e74adf"}', 'todo', NULL, 0, false, NULL);
INSERT INTO public.procrastinate_jobs VALUES (6, 'segment', 'glionode.segment', 0, '1.2.826.0.1.3680043.8.498.10005', '1.2.826.0.1.3680043.8.498.10005-cfe3abb42d4d0b97', '{"key": "1.2.826.0.1.3680043.8.498.10005-cfe3abb42d4d0b97"}', 'todo', NULL, 0, false, NULL);
INSERT INTO public.procrastinate_jobs VALUES (7, 'segment', 'glionode.segment', 0, '1.2.826.0.1.3680043.8.498.10006', '1.2.826.0.1.3680043.8.498.10006-97d407b79e56c266', '{"key": "1.2.826.0.1.3680043.8.498.10006-97d407b79e56c266"}', 'todo', NULL, 0, false, NULL);
INSERT INTO public.procrastinate_workers OVERRIDING SYSTEM VALUE VALUES (1, '2024-01-02 18:43:25.72071+00');
SELECT pg_catalog.setval('public.glionode_audit_id_seq', 14, true);
SELECT pg_catalog.setval('public.glionode_plugin_changes_seq_seq', 1, false);
SELECT pg_catalog.setval('public.procrastinate_events_id_seq', 11, true);
SELECT pg_catalog.setval('public.procrastinate_jobs_id_seq', 7, true);
SELECT pg_catalog.setval('public.procrastinate_periodic_defers_id_seq', 1, false);
SELECT pg_catalog.setval('public.procrastinate_workers_id_seq', 1, true);
ALTER TABLE ONLY public.glionode_audit
    ADD CONSTRAINT glionode_audit_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.glionode_commitments
    ADD CONSTRAINT glionode_commitments_pkey PRIMARY KEY (transaction_uid, sop_instance_uid);
ALTER TABLE ONLY public.glionode_jobs
    ADD CONSTRAINT glionode_jobs_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.glionode_outbox
    ADD CONSTRAINT glionode_outbox_pkey PRIMARY KEY (sop_instance_uid, destination);
ALTER TABLE ONLY public.glionode_plugin_changes
    ADD CONSTRAINT glionode_plugin_changes_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.glionode_plugin_metadata
    ADD CONSTRAINT glionode_plugin_metadata_pkey PRIMARY KEY (resource, number);
ALTER TABLE ONLY public.glionode_plugin_properties
    ADD CONSTRAINT glionode_plugin_properties_pkey PRIMARY KEY (number);
ALTER TABLE ONLY public.glionode_plugin_seen
    ADD CONSTRAINT glionode_plugin_seen_pkey PRIMARY KEY (resource);
ALTER TABLE ONLY public.glionode_plugin_stable
    ADD CONSTRAINT glionode_plugin_stable_pkey PRIMARY KEY (resource);
ALTER TABLE ONLY public.glionode_troubles
    ADD CONSTRAINT glionode_troubles_pkey PRIMARY KEY (place);
ALTER TABLE ONLY public.procrastinate_events
    ADD CONSTRAINT procrastinate_events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.procrastinate_jobs
    ADD CONSTRAINT procrastinate_jobs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.procrastinate_periodic_defers
    ADD CONSTRAINT procrastinate_periodic_defers_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.procrastinate_periodic_defers
    ADD CONSTRAINT procrastinate_periodic_defers_unique UNIQUE (task_name, periodic_id, defer_timestamp);
ALTER TABLE ONLY public.procrastinate_workers
    ADD CONSTRAINT procrastinate_workers_pkey PRIMARY KEY (id);
CREATE INDEX glionode_audit_job ON public.glionode_audit USING btree (job_key);
CREATE INDEX glionode_audit_study ON public.glionode_audit USING btree (study_instance_uid, at);
CREATE INDEX glionode_commitments_object ON public.glionode_commitments USING btree (sop_instance_uid, destination);
CREATE INDEX glionode_jobs_open ON public.glionode_jobs USING btree (state) WHERE (finished_at IS NULL);
CREATE INDEX glionode_jobs_study ON public.glionode_jobs USING btree (study_instance_uid);
CREATE INDEX glionode_jobs_unmarked ON public.glionode_jobs USING btree (finished_at) WHERE ((source = 'orthanc'::text) AND ((marked_at IS NULL) OR (marked_at < finished_at)));
CREATE INDEX glionode_outbox_asks ON public.glionode_outbox USING btree (destination, ask_at) WHERE (ask_at IS NOT NULL);
CREATE INDEX glionode_outbox_due ON public.glionode_outbox USING btree (destination, next_try) WHERE (state = ANY (ARRAY['queued'::text, 'failed'::text]));
CREATE INDEX glionode_plugin_changes_resource ON public.glionode_plugin_changes USING btree (resource);
CREATE INDEX idx_procrastinate_jobs_worker_not_null ON public.procrastinate_jobs USING btree (worker_id) WHERE ((worker_id IS NOT NULL) AND (status = 'doing'::public.procrastinate_job_status));
CREATE INDEX idx_procrastinate_workers_last_heartbeat ON public.procrastinate_workers USING btree (last_heartbeat);
CREATE INDEX procrastinate_events_job_id_fkey_v1 ON public.procrastinate_events USING btree (job_id);
CREATE INDEX procrastinate_jobs_id_lock_idx_v1 ON public.procrastinate_jobs USING btree (id, lock) WHERE (status = ANY (ARRAY['todo'::public.procrastinate_job_status, 'doing'::public.procrastinate_job_status]));
CREATE UNIQUE INDEX procrastinate_jobs_lock_idx_v1 ON public.procrastinate_jobs USING btree (lock) WHERE (status = 'doing'::public.procrastinate_job_status);
CREATE INDEX procrastinate_jobs_priority_idx_v1 ON public.procrastinate_jobs USING btree (priority DESC, id) WHERE (status = 'todo'::public.procrastinate_job_status);
CREATE INDEX procrastinate_jobs_queue_name_idx_v1 ON public.procrastinate_jobs USING btree (queue_name);
CREATE UNIQUE INDEX procrastinate_jobs_queueing_lock_idx_v1 ON public.procrastinate_jobs USING btree (queueing_lock) WHERE (status = 'todo'::public.procrastinate_job_status);
CREATE INDEX procrastinate_periodic_defers_job_id_fkey_v1 ON public.procrastinate_periodic_defers USING btree (job_id);
CREATE TRIGGER procrastinate_jobs_notify_queue_job_aborted_v1 AFTER UPDATE OF abort_requested ON public.procrastinate_jobs FOR EACH ROW WHEN (((old.abort_requested = false) AND (new.abort_requested = true) AND (new.status = 'doing'::public.procrastinate_job_status))) EXECUTE FUNCTION public.procrastinate_notify_queue_abort_job_v1();
CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 AFTER INSERT ON public.procrastinate_jobs FOR EACH ROW WHEN ((new.status = 'todo'::public.procrastinate_job_status)) EXECUTE FUNCTION public.procrastinate_notify_queue_job_inserted_v1();
CREATE TRIGGER procrastinate_trigger_abort_requested_events_v1 AFTER UPDATE OF abort_requested ON public.procrastinate_jobs FOR EACH ROW WHEN ((new.abort_requested = true)) EXECUTE FUNCTION public.procrastinate_trigger_abort_requested_events_procedure_v1();
CREATE TRIGGER procrastinate_trigger_delete_jobs_v1 BEFORE DELETE ON public.procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION public.procrastinate_unlink_periodic_defers_v1();
CREATE TRIGGER procrastinate_trigger_scheduled_events_v1 AFTER INSERT OR UPDATE ON public.procrastinate_jobs FOR EACH ROW WHEN (((new.scheduled_at IS NOT NULL) AND (new.status = 'todo'::public.procrastinate_job_status))) EXECUTE FUNCTION public.procrastinate_trigger_function_scheduled_events_v1();
CREATE TRIGGER procrastinate_trigger_status_events_insert_v1 AFTER INSERT ON public.procrastinate_jobs FOR EACH ROW WHEN ((new.status = 'todo'::public.procrastinate_job_status)) EXECUTE FUNCTION public.procrastinate_trigger_function_status_events_insert_v1();
CREATE TRIGGER procrastinate_trigger_status_events_update_v1 AFTER UPDATE OF status ON public.procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION public.procrastinate_trigger_function_status_events_update_v1();
ALTER TABLE ONLY public.glionode_outbox
    ADD CONSTRAINT glionode_outbox_job_key_fkey FOREIGN KEY (job_key) REFERENCES public.glionode_jobs(key) ON DELETE CASCADE;
ALTER TABLE ONLY public.procrastinate_events
    ADD CONSTRAINT procrastinate_events_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.procrastinate_jobs(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.procrastinate_jobs
    ADD CONSTRAINT procrastinate_jobs_worker_id_fkey FOREIGN KEY (worker_id) REFERENCES public.procrastinate_workers(id) ON DELETE SET NULL;
ALTER TABLE ONLY public.procrastinate_periodic_defers
    ADD CONSTRAINT procrastinate_periodic_defers_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.procrastinate_jobs(id);
