"""What Orthanc's plugin asks of the node, over HTTP and with the token: take a study, what came of it, how are you."""

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
from plugin.orthanc.intake import OrthancIntake, Wish
from plugin.orthanc.studies import TwoStudies
from plugin.orthanc_script.node_client import STUDY_UNKNOWN, TWO_STUDIES

_NOT_THERE = HTTPException(404, {"glionode": STUDY_UNKNOWN, "why": "Orthanc has no such study."})


def orthanc_routes(intake: OrthancIntake, token: str) -> APIRouter:
    """The routes under /api/orthanc, for whoever shows the token; studies go by Orthanc's own identifiers."""
    routes = APIRouter(prefix="/api/orthanc", dependencies=[Depends(RequireToken(token))])

    @routes.post("/studies/{study}", status_code=202)
    def submit(study: str, urgent: bool = False, force: bool = False) -> dict[str, Any]:
        """Take a study; 202 also where it has a job already, which `added` says."""
        return _of_a_study(study, lambda: asdict(intake.submit(study, Wish(urgent, force))))

    @routes.get("/studies/{study}")
    def look(study: str) -> dict[str, Any]:
        """What came of it."""
        return _of_a_study(study, lambda: intake.look(study))

    @routes.get("/status")
    def status() -> dict[str, Any]:
        """Jobs by state, and which database has them."""
        return _with_database(intake.status)

    return routes


def _of_a_study(study: str, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not is_orthanc_id(study):
        raise _NOT_THERE
    try:
        return _with_database(ask)
    except TwoStudies as exc:  # it is for a person to solve, and named again until then
        raise HTTPException(409, {"glionode": TWO_STUDIES, "why": str(exc)}) from exc
    except NotInArchive as exc:
        raise _NOT_THERE from exc
    except ArchiveUnavailable as exc:
        raise HTTPException(503, str(exc)) from exc


def _with_database(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return ask()
    except (psycopg.Error, ConnectorException, PoolTimeout) as exc:
        raise HTTPException(503, f"The node's database does not answer ({type(exc).__name__}).") from exc
