"""Serve the routes that a hosted plugin registered, behind the node's own. Not Orthanc's REST API."""

from http import HTTPStatus

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from plugin.http.auth import RequireToken
from plugin.orthanc_api.callbacks import Callbacks, PluginRequest
from plugin.orthanc_api.errors import ErrorCode, OrthancException, failure
from plugin.orthanc_api.rest_output import RestResponse
from plugin.orthanc_api.router import split_query

_METHODS = ["GET", "POST", "PUT", "DELETE"]
_LARGEST_BODY = 512 << 20
_STATUS = {
    ErrorCode.UNKNOWN_RESOURCE: HTTPStatus.NOT_FOUND,
    ErrorCode.BAD_REQUEST: HTTPStatus.BAD_REQUEST,
    ErrorCode.URI_SYNTAX: HTTPStatus.BAD_REQUEST,
}


def plugin_routes(registered: Callbacks, token: str) -> APIRouter:
    """Return the routes; requests need the token unless it is empty. Include them last: they match every path."""
    routes = APIRouter(dependencies=[Depends(RequireToken(token))] if token else [])

    @routes.api_route("/{path:path}", methods=_METHODS)
    async def handle(path: str, request: Request) -> Response:
        """Return the plugin's response."""
        plugin_request = PluginRequest(
            request.method,
            f"/{path}",
            await _body(request),
            {name.lower(): value for name, value in request.headers.items()},
            split_query(f"?{request.url.query}")[1],
            request.client.host if request.client is not None else "",
        )
        return await run_in_threadpool(_handle, registered, plugin_request)

    return routes


def _handle(registered: Callbacks, request: PluginRequest) -> Response:
    try:
        if not registered.allows(request):
            return Response(status_code=HTTPStatus.FORBIDDEN)
        response = registered.handle(request)
        if response is None:
            raise failure(ErrorCode.UNKNOWN_RESOURCE)
    except OrthancException as exc:
        return _error_response(request, *exc.args)
    return _as_http(response)


def _as_http(response: RestResponse) -> Response:
    # A callback that gives no response leaves an empty body, as in Orthanc.
    answer = Response(response.body, response.status or HTTPStatus.OK, response.headers)
    for name, value in response.cookies.items():
        answer.headers.append("Set-Cookie", f"{name}={value}")
    return answer


def _error_response(request: PluginRequest, code: int, description: str) -> Response:
    status = _STATUS.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)
    document = {
        "HttpError": status.phrase,
        "HttpStatus": status.value,
        "Message": description,
        "Method": request.method,
        "OrthancError": description,
        "OrthancStatus": code,
        "Uri": request.uri,
    }
    return JSONResponse(document, status)


async def _body(request: Request) -> bytes:
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > _LARGEST_BODY:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request body has more than 512 MiB.")
    except ClientDisconnect as exc:
        raise HTTPException(
            HTTPStatus.BAD_REQUEST, "The connection ended before the whole request body had arrived."
        ) from exc
    return b"".join(chunks)
