"""Refuse requests that a web page of another site makes a browser send: Host, Origin and Sec-Fetch-Site are checked.

A page reaches a server on the visitor's own network in two ways. It may send requests whose responses it cannot read
(cross-site request forgery); a browser then names the page in Origin, or its relation in Sec-Fetch-Site (Fetch
Metadata). Or the page's own name may come to mean the server's address (DNS rebinding); then Host has the page's name.
No response allows another site anything (CORS), whatever a hosted plugin sets.
"""

import ipaddress
import json
import logging
import re
import socket
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plugin.logs import RepeatedRefusals
from plugin.settings.sections import HttpSettings

_LOG = logging.getLogger(__name__)

_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{1,5})?")
"""An IPv6 address in brackets, an IPv4 address or a name, and a port (RFC 9110 7.2)."""
_OWN_PAGES = frozenset(("same-origin", "none"))
"""Values of Sec-Fetch-Site for a page of this server, and for an address that a person typed."""


class Refused(NamedTuple):
    """Why a request is refused, and the response."""

    status: HTTPStatus
    reason: str
    """A clause for the log; holds nothing that the peer sent."""
    advice: str
    """What to do; for the response."""


def own_names(settings: HttpSettings) -> frozenset[str]:
    """Return the names, in small letters, by which clients may call the server; its addresses come on top."""
    named = {settings.host} if settings.host and not _is_wildcard(settings.host) else set()
    return frozenset(name.lower() for name in {"localhost", socket.gethostname(), *settings.allowed_hosts, *named})


def check_origin(headers: Mapping[str, str], server_address: str, names: frozenset[str], scheme: str) -> Refused | None:
    """Return why a request is refused, None if it is not. `headers` have names in small letters."""
    host = headers.get("host", "").lower()
    if not _is_ours(host, server_address, names):
        return Refused(
            HTTPStatus.MISDIRECTED_REQUEST,
            "its Host is no name of this server",
            "The server is not known by the name in Host. If that is its name, add it to http.allowed_hosts.",
        )
    site = headers.get("sec-fetch-site", "none")
    origin = headers.get("origin")
    if site not in _OWN_PAGES or (origin is not None and not _is_origin_of(origin.lower(), host, scheme)):
        return Refused(
            HTTPStatus.FORBIDDEN,
            "it comes from a page of another site",
            "Requests from pages of other sites are refused. Open the address by itself. A proxy before the server "
            "must pass Host on unchanged.",
        )
    return None


class CheckOrigin:
    """ASGI middleware: responds itself to requests that `check_origin` refuses."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app = app
        self._names = names
        self._log = RepeatedRefusals(_LOG, "refused HTTP from")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request that is refused, and pass on any other."""
        refused = check_origin(_single_headers(scope["headers"]), scope["server"][0], self._names, scope["scheme"])
        if refused is None:
            await self._app(scope, receive, _WithoutCors(send))
            return
        self._log.refused(scope["client"][0] if scope["client"] else "", refused.reason)
        body = json.dumps({"detail": refused.advice}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        # The body of the request is not read, so the connection cannot be used again.
        start = {
            "type": "http.response.start",
            "status": refused.status,
            "headers": [*headers, (b"connection", b"close")],
        }
        await send(start)
        await send({"type": "http.response.body", "body": body})


class _WithoutCors:
    """Sends a response without the headers that would let pages of other sites read it."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [
                each for each in message.get("headers", ()) if not each[0].lower().startswith(b"access-control-")
            ]
            message = {**message, "headers": [*headers, (b"cross-origin-resource-policy", b"same-origin")]}
        await self._send(message)


def _single_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers; those that come several times are joined, so that none of them passes as the only one."""
    found: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _is_ours(host: str, server_address: str, names: frozenset[str]) -> bool:
    parts = _HOST.fullmatch(host)
    if parts is None:
        return False
    name = parts["v6"] or parts["name"]
    if name in names:
        return True
    address = _parse_address(name)
    return address is not None and (address.is_loopback or address == _parse_address(server_address))


def _is_origin_of(origin: str, host: str, scheme: str) -> bool:
    """Return whether a page is from here. Before a plain server there may be a proxy that speaks TLS."""
    schemes = ("https",) if scheme == "https" else ("http", "https")
    return any(origin == f"{each}://{host}" for each in schemes)


def _is_wildcard(host: str) -> bool:
    address = _parse_address(host)
    return address is not None and address.is_unspecified


def _parse_address(text: str) -> Any:
    """Return an address without its zone, IPv4 also where a dual-stack socket gives it as IPv6; None for a name."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
