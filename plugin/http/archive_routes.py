"""The routes of the archive, for workers and deliverers without its disk: read images, write and read results.

They require the token. Paths are made of checked UIDs only. Responses to GET carry length and SHA-256; so must a PUT.
"""

import logging
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from plugin.archive.incoming_file import NoRoom
from plugin.archive.store import EmbeddedArchive, InstanceKey, WrongUid, is_uid, results_root
from plugin.archive.study_inputs import read_inputs
from plugin.http.auth import RequireToken
from plugin.http.result_upload import ResultUpload
from plugin.http.transfer import NOT_FOUND, WrongTransfer, format_digest, parse_digest, parse_result_path, sha256_of

_LOG = logging.getLogger(__name__)


def archive_routes(archive: EmbeddedArchive, token: str) -> APIRouter:
    """Return the routes under /api, which require the token."""
    routes = APIRouter(prefix="/api", dependencies=[Depends(RequireToken(token))])
    data_dir = archive.data_dir

    @routes.get("/studies/{study}/instances")
    def list_images(study: str) -> dict[str, object]:
        """List the MR images of a study, and count its other instances."""
        if not is_uid(study):
            raise _not_found()
        inputs = read_inputs(archive, study)
        images = [{"series": path.parent.name, "instance": path.stem} for path in inputs.paths]
        return {
            "images": images,
            "other_instances": inputs.other_instances,
            "replacements": inputs.replacements,
        }

    @routes.get("/studies/{study}/series/{series}/instances/{instance}")
    def get_image(study: str, series: str, instance: str) -> FileResponse:
        """Send an instance as it was received."""
        try:
            key = InstanceKey(study, series, instance)
        except WrongUid as exc:
            raise _not_found() from exc
        return _file_response(archive.path(key))

    @routes.put("/results/{job_key}", status_code=201)
    async def put_result(
        job_key: str, request: Request, digest: Annotated[str, Header(alias="Repr-Digest")] = ""
    ) -> dict[str, str]:
        """Store a result folder that comes as a tar; respond with its path on this host."""
        try:
            sha256 = parse_digest(digest)
            upload = ResultUpload(archive, job_key)
            try:
                async for chunk in request.stream():
                    upload.write(chunk)
                folder = await run_in_threadpool(upload.finish, sha256)
            finally:
                upload.discard()
        except WrongTransfer as exc:
            raise HTTPException(400, f"The result was not stored: {exc}. Send it again.") from exc
        except NoRoom as exc:
            raise HTTPException(507, f"The archive's disk has no room for the result: {exc}.") from exc
        except ClientDisconnect as exc:
            text = "The upload ended before the whole result had arrived; send it again."
            raise HTTPException(400, text) from exc
        _LOG.info("stored the result of job %s", job_key, extra={"job": job_key})
        return {"folder": str(folder)}

    @routes.get("/results/{study}/{folder}/{name}")
    def get_result(study: str, folder: str, name: str) -> FileResponse:
        """Send a file of a result."""
        try:
            parts = parse_result_path(f"{study}/{folder}/{name}")
        except WrongTransfer as exc:
            raise _not_found() from exc
        return _file_response(results_root(data_dir).joinpath(*parts))

    return routes


def _file_response(path: Path) -> FileResponse:
    try:
        headers = {"Repr-Digest": format_digest(sha256_of(path))}
    except OSError as exc:
        raise _not_found() from exc
    return FileResponse(path, headers=headers, media_type="application/octet-stream")


def _not_found() -> HTTPException:
    return HTTPException(404, NOT_FOUND)
