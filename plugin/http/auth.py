"""Bearer token authentication of HTTP requests."""

import hashlib
import hmac
import logging

from fastapi import HTTPException, Request

from plugin.logs import RepeatedRefusals

_LOG = logging.getLogger(__name__)


class RequireToken:
    """A dependency that rejects requests without the token. Its time does not tell how much of a token is right."""

    def __init__(self, token: str) -> None:
        self._sha256 = hashlib.sha256(token.encode()).digest()
        self._log = RepeatedRefusals(_LOG, "refused HTTP from")

    async def __call__(self, request: Request) -> None:
        scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
        sha256 = hashlib.sha256(presented.strip().encode("utf-8", "surrogateescape")).digest()
        if not hmac.compare_digest(self._sha256, sha256) or scheme.lower() != "bearer":
            self._log.refused(request.client.host if request.client is not None else "", "no valid bearer token")
            raise HTTPException(
                401,
                "The request carries no valid bearer token; send the token of http.token_file.",
                {"WWW-Authenticate": "Bearer"},
            )
