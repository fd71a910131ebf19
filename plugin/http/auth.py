"""Bearer token authentication of HTTP requests."""

import hashlib
import hmac
import logging

from fastapi import HTTPException, Request

_LOG = logging.getLogger(__name__)


class RequireToken:
    """Lets requests pass that show the token, and tells nobody by its time how much of it was right."""

    def __init__(self, token: str) -> None:
        self._sha256 = hashlib.sha256(token.encode()).digest()

    def __call__(self, request: Request) -> None:
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        shown_sha256 = hashlib.sha256(shown.strip().encode("utf-8", "surrogateescape")).digest()
        if not hmac.compare_digest(self._sha256, shown_sha256) or scheme.lower() != "bearer":
            peer = request.client.host if request.client is not None else "somebody"
            _LOG.warning("refused HTTP of %s: no token, or a wrong one", peer)
            raise HTTPException(401, "This asks for the token.", {"WWW-Authenticate": "Bearer"})
