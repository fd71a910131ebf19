"""A plugin's own routes over HTTP: whatever the node does not answer itself is theirs. Orthanc's API is not served."""

from http import HTTPStatus

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from plugin.http.auth import RequireToken
from plugin.orthanc_api import callbacks
from plugin.orthanc_api.callbacks import Callbacks
from plugin.orthanc_api.errors import ErrorCode, OrthancException, failure
from plugin.orthanc_api.output import Answer
from plugin.orthanc_api.router import split_query

_METHODS = ["GET", "POST", "PUT", "DELETE"]
_LARGEST_BODY = 512 << 20
_STATUS = {
    ErrorCode.UNKNOWN_RESOURCE: HTTPStatus.NOT_FOUND,
    ErrorCode.BAD_REQUEST: HTTPStatus.BAD_REQUEST,
    ErrorCode.URI_SYNTAX: HTTPStatus.BAD_REQUEST,
}


def plugin_routes(registered: Callbacks, token: str) -> APIRouter:
    """The routes, for whoever shows the token, for all where it is empty. To be included last."""
    routes = APIRouter(dependencies=[Depends(RequireToken(token))] if token else [])

    @routes.api_route("/{path:path}", methods=_METHODS)
    async def answer(path: str, request: Request) -> Response:
        """What the plugin answers."""
        asked = callbacks.Request(
            request.method,
            f"/{path}",
            await _body(request),
            {name.lower(): value for name, value in request.headers.items()},
            split_query(f"?{request.url.query}")[1],
            request.client.host if request.client is not None else "",
        )
        return await run_in_threadpool(_answer, registered, asked)

    return routes


def _answer(registered: Callbacks, asked: callbacks.Request) -> Response:
    try:
        if not registered.lets_in(asked):
            return Response(status_code=HTTPStatus.FORBIDDEN)
        given = registered.answer(asked)
        if given is None:
            raise failure(ErrorCode.UNKNOWN_RESOURCE)
    except OrthancException as exc:
        return _failed(asked, *exc.args)
    return _sent(given)


def _sent(given: Answer) -> Response:
    # A callback that answers nothing leaves an empty body, as Orthanc does.
    answer = Response(given.body, given.status or HTTPStatus.OK, given.headers)
    for name, value in given.cookies.items():
        answer.headers.append("Set-Cookie", f"{name}={value}")
    return answer


def _failed(asked: callbacks.Request, code: int, description: str) -> Response:
    status = _STATUS.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)
    said = {
        "HttpError": status.phrase,
        "HttpStatus": status.value,
        "Message": description,
        "Method": asked.method,
        "OrthancError": description,
        "OrthancStatus": code,
        "Uri": asked.uri,
    }
    return JSONResponse(said, status)


async def _body(request: Request) -> bytes:
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > _LARGEST_BODY:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large.")
    except ClientDisconnect as exc:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "The body was torn.") from exc
    return b"".join(chunks)
