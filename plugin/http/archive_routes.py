"""The archive over HTTP, for workers and deliverers without its disk: images out, results in and out. Asks for a token.

Paths are made of checked UIDs only. A GET carries length and SHA-256, and so must a PUT.
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
from plugin.http.transfer import WrongTransfer, parse_digest, repr_digest, result_path, sha256_of

_LOG = logging.getLogger(__name__)

_NOT_THERE = HTTPException(404, "It is not there.")


def archive_routes(archive: EmbeddedArchive, token: str) -> APIRouter:
    """The routes under /api, for whoever shows the token."""
    routes = APIRouter(prefix="/api", dependencies=[Depends(RequireToken(token))])
    data_dir = archive.data_dir

    @routes.get("/studies/{study}/instances")
    def list_images(study: str) -> dict[str, object]:
        """The MR images of a study, as `read_inputs` has them."""
        if not is_uid(study):
            raise _NOT_THERE
        inputs = read_inputs(archive, study)
        images = [{"series": path.parent.name, "instance": path.stem} for path in inputs.paths]
        return {"images": images, "other_instances": inputs.other_instances}

    @routes.get("/studies/{study}/series/{series}/instances/{instance}")
    def get_image(study: str, series: str, instance: str) -> FileResponse:
        """An instance as it was received."""
        try:
            key = InstanceKey(study, series, instance)
        except WrongUid as exc:
            raise _NOT_THERE from exc
        return _file(archive.path(key))

    @routes.put("/results/{job_key}", status_code=201)
    async def put_result(
        job_key: str, request: Request, digest: Annotated[str, Header(alias="Repr-Digest")] = ""
    ) -> dict[str, str]:
        """A result folder as a tar; the answer says where it lies here."""
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
            raise HTTPException(400, f"The result was not taken: {exc}.") from exc
        except NoRoom as exc:
            raise HTTPException(507, f"There is no room for a result: {exc}.") from exc
        except ClientDisconnect as exc:
            raise HTTPException(400, "The result was torn.") from exc
        _LOG.info("took the result of job %s", job_key, extra={"job": job_key})
        return {"folder": str(folder)}

    @routes.get("/results/{study}/{folder}/{name}")
    def get_result(study: str, folder: str, name: str) -> FileResponse:
        """A file of a result."""
        try:
            parts = result_path(f"{study}/{folder}/{name}")
        except WrongTransfer as exc:
            raise _NOT_THERE from exc
        return _file(results_root(data_dir).joinpath(*parts))

    return routes


def _file(path: Path) -> FileResponse:
    try:
        headers = {"Repr-Digest": repr_digest(sha256_of(path))}
    except OSError as exc:
        raise _NOT_THERE from exc
    return FileResponse(path, headers=headers, media_type="application/octet-stream")
