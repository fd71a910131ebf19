"""The routes for the script inside Orthanc: submit a study, read its outcome, read the status; with the token."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import psycopg
from fastapi import APIRouter, Depends, HTTPException
from procrastinate.exceptions import ConnectorException
from psycopg_pool import PoolTimeout

from plugin.errors import ArchiveUnavailable, NotInArchive
from plugin.http.auth import RequireToken
from plugin.orthanc.client import is_orthanc_id
from plugin.orthanc.intake import OrthancIntake, SubmitOptions
from plugin.orthanc.studies import TwoStudies
from plugin.orthanc_script.node_client import STUDY_UNKNOWN, TWO_STUDIES


def orthanc_routes(intake: OrthancIntake, token: str) -> APIRouter:
    """Return the routes under /api/orthanc. Studies are named by Orthanc's own identifiers."""
    routes = APIRouter(prefix="/api/orthanc", dependencies=[Depends(RequireToken(token))])

    @routes.post("/studies/{study}", status_code=202)
    def submit(study: str, urgent: bool = False, force: bool = False) -> dict[str, Any]:
        """Add a job for a study. Responds with 202 also where it has one already; then `added` is false."""
        return _handle_study(study, lambda: asdict(intake.submit(study, SubmitOptions(urgent, force))))

    @routes.get("/studies/{study}")
    def outcome(study: str) -> dict[str, Any]:
        """Return the outcome of a study."""
        return _handle_study(study, lambda: intake.outcome(study))

    @routes.get("/status")
    def status() -> dict[str, Any]:
        """Return the numbers of jobs by state, and the identity of the database."""
        return _handle(intake.status)

    return routes


def _handle_study(study: str, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not is_orthanc_id(study):
        raise _not_found()
    try:
        return _handle(read)
    except TwoStudies as exc:  # a person has to solve this; until then the study is submitted again and again
        raise HTTPException(409, {"glionode": TWO_STUDIES, "why": str(exc)}) from exc
    except NotInArchive as exc:
        raise _not_found() from exc
    except ArchiveUnavailable as exc:
        raise HTTPException(503, str(exc)) from exc


def _handle(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return read()
    except (psycopg.Error, ConnectorException, PoolTimeout) as exc:
        raise HTTPException(503, f"The node's database does not answer ({type(exc).__name__}).") from exc


def _not_found() -> HTTPException:
    return HTTPException(404, {"glionode": STUDY_UNKNOWN, "why": "Orthanc has no such study."})
