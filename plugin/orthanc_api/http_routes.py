"""Serve the routes that a hosted plugin registered, behind the node's own. Not Orthanc's REST API."""

from http import HTTPStatus

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from plugin.http.auth import RequireToken
from plugin.orthanc_api.callbacks import Callbacks, PluginRequest
from plugin.orthanc_api.errors import ErrorCode, OrthancException, failure
from plugin.orthanc_api.rest_output import RestResponse
from plugin.orthanc_api.router import split_query

_TOKEN = "authorization"
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain", "")
"""Content types that a page may send anywhere without asking (Fetch 2.2.2); none is empty."""
_METHODS = ["GET", "POST", "PUT", "DELETE"]
_MOST_REQUESTS = 40
"""At a time; less than the connections of one address, so that a plugin that hangs stops /health for nobody."""
_LARGEST_BODY = 512 << 20
_STATUS = {
    ErrorCode.UNKNOWN_RESOURCE: HTTPStatus.NOT_FOUND,
    ErrorCode.BAD_REQUEST: HTTPStatus.BAD_REQUEST,
    ErrorCode.URI_SYNTAX: HTTPStatus.BAD_REQUEST,
}


def plugin_routes(registered: Callbacks, token: str) -> APIRouter:
    """Return the routes; requests need the token unless it is empty. Include them last: they match every path."""
    routes = APIRouter(dependencies=[Depends(RequireToken(token) if token else _refuse_forms)])

    threads, running = CapacityLimiter(_MOST_REQUESTS), 0

    @routes.api_route("/{path:path}", methods=_METHODS)
    async def handle(path: str, request: Request) -> Response:
        """Return the plugin's response."""
        plugin_request = PluginRequest(
            request.method,
            f"/{path}",
            await _body(request),
            # The plugin does not see the node's own token, which it might log.
            {name.lower(): value for name, value in request.headers.items() if not token or name.lower() != _TOKEN},
            split_query(f"?{request.url.query}")[1],
            request.client.host if request.client is not None else "",
        )
        nonlocal running
        if running == _MOST_REQUESTS:
            text = f"The plugin has not yet answered {_MOST_REQUESTS} earlier requests."
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, text)
        running += 1
        try:
            return await to_thread.run_sync(_handle, registered, plugin_request, limiter=threads)
        finally:
            running -= 1

    return routes


async def _refuse_forms(request: Request) -> None:
    """Refuse bodies that a page of another site could have sent; with a token there are no such requests."""
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    has_body = "Content-Type" in request.headers or request.headers.get("Content-Length", "0") != "0"
    if (has_body or "Transfer-Encoding" in request.headers) and media_type in _FORMS:
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "Without a token a request body must be application/json or another type that no form of a web page has.",
        )


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
