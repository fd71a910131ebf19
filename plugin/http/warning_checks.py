"""Find what will need a person though the node works: the warnings of /health and of `glionode status`.

A sentence says what, where and what to do. It names destinations and files of the settings, no study and no patient.
"""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from plugin.archive.quarantine import count_quarantined
from plugin.database.pool import Connection
from plugin.errors import DatabaseUnavailable
from plugin.http.database_probe import DatabaseProbe
from plugin.jobs import unadopted
from plugin.jobs.backlog import LATELY_H, Backlog, read_backlog
from plugin.retention.taken_study import taken_studies
from plugin.settings.certificates import certificate_ends
from plugin.settings.sections import AlertSettings, Settings


def find_warnings(settings: Settings, probe: DatabaseProbe) -> dict[str, str]:
    """Return the sentences by name; without those of the database where that does not answer."""
    found = find_file_warnings(settings)
    try:
        return found | probe.read(lambda connection: find_database_warnings(settings.alerts, connection))
    except DatabaseUnavailable:  # a check says so
        return found


def find_database_warnings(alerts: AlertSettings, connection: Connection) -> dict[str, str]:
    """Return the warnings about jobs, deliveries and reception."""
    found = warn_of_backlog(read_backlog(connection), alerts, datetime.now(UTC))
    return found | _warn_of_unadopted(connection)


def warn_of_backlog(backlog: Backlog, alerts: AlertSettings, now: datetime) -> dict[str, str]:
    """Return the warnings that follow from what has not come to its end."""
    found: dict[str, str] = {}
    if backlog.jobs_failed_lately:
        found["failed_jobs"] = (
            f"Jobs failed in the last {LATELY_H} hours: {backlog.jobs_failed_lately}; "
            "`glionode jobs --state failed` says why, `glionode retry JOB` runs one again."
        )
    if backlog.oldest_queued_s > alerts.job_waits_s:
        found["waiting_jobs"] = (
            f"A job has waited for {_hours(backlog.oldest_queued_s)}; `glionode status` says whether a worker runs."
        )
    if backlog.results_lost:
        found["lost_results"] = (
            f"Results that were lost or damaged on disk are made again: {backlog.results_lost}; look after the disk, "
            "`glionode jobs` names the jobs."
        )
    dead = {name: each.dead for name, each in backlog.deliveries.items() if each.dead}
    if dead:
        found["dead_deliveries"] = f"Given up: {_counts(dead)}; `glionode retry --dead` sends them again."
    late = {
        name: each.oldest_waiting_s
        for name, each in backlog.deliveries.items()
        if each.oldest_waiting_s > alerts.delivery_waits_s
    }
    if late:
        ages = ", ".join(f"{name} for {_hours(age)}" for name, age in late.items())
        found["waiting_deliveries"] = f"Results wait for {ages}; `glionode status` has the last error of each."
    held = {name: each.held for name, each in backlog.deliveries.items() if each.held}
    if held:
        found["held_results"] = f"Empty results are held: {_counts(held)}; `glionode release JOB` sends one."
    if alerts.silent_after_h and backlog.last_received_at is not None:
        silent_s = (now - backlog.last_received_at).total_seconds()
        if silent_s > alerts.silent_after_h * 3600:
            found["reception"] = f"No image has come for {_hours(silent_s)}; is the scanner's or PACS's route in place?"
    return found


def _warn_of_unadopted(connection: Connection) -> dict[str, str]:
    waiting = unadopted.count_held(connection)
    if not waiting:
        return {}
    return {
        "unadopted": (
            f"Studies that the database does not know though their images or results are here: {waiting}. It was lost, "
            "replaced or restored. Nothing is computed or sent of them; `glionode adopt --dry-run` says what was found."
        )
    }


def find_file_warnings(settings: Settings) -> dict[str, str]:
    """Return the warnings about disk, quarantine, purges and certificates."""
    found: dict[str, str] = {}
    now = datetime.now(UTC)
    free_mb = free_mb_of(settings.data_dir)
    if free_mb < settings.alerts.free_mb:
        found["disk"] = (
            f"{free_mb} MiB are free in storage.data_dir; below {settings.storage.minimum_free_mb} MiB images are "
            "refused. `glionode purge --older-than` removes studies that are over."
        )
    kept = count_quarantined(settings.data_dir, since=now - timedelta(hours=LATELY_H))
    if kept:
        found["quarantine"] = (
            f"{kept} objects that do not parse came in the last {LATELY_H} hours; copies are in the folder quarantine "
            "of storage.data_dir."
        )
    if taken := taken_studies(settings.data_dir):
        found["purge"] = (
            f"{len(taken)} studies are out of the archive, because they are being purged or their purge was "
            "interrupted. The running node removes them or puts them back, within a minute or when it starts."
        )
    soon = now + timedelta(days=settings.alerts.certificate_days)
    ends = certificate_ends(settings)
    wrong = {key: _end(end, now) for key, end in ends.items() if end is None or end < soon}
    if wrong:
        listed = ", ".join(f"{key} {end}" for key, end in wrong.items())
        found["certificates"] = f"{listed}. Put the new files in place; `glionode check-config` checks them."
    return found


def free_mb_of(data_dir: Path) -> int:
    """Return the free space for a data folder, which need not exist yet, MiB."""
    folder = data_dir
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free >> 20


def _end(end: datetime | None, now: datetime) -> str:
    if end is None:
        return "cannot be read"
    return f"{'expired' if end < now else 'expires'} on {end:%Y-%m-%d}"


def _counts(objects: dict[str, int]) -> str:
    return ", ".join(f"{count} objects for {name}" for name, count in objects.items())


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
