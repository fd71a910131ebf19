"""The class RestOutput of Orthanc's API, by which a REST callback gives its response."""

from dataclasses import dataclass, field

from plugin.orthanc_api.errors import ErrorCode, failure

_OK = 200


@dataclass(slots=True)
class RestResponse:
    """A hosted plugin's response to a request."""

    status: int | None = None
    """None until the callback has given a response."""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        """Whether the status is 200, which RestApi...AfterPlugins needs."""
        return self.status == _OK


class RestOutput:
    """Fills a response. The methods have Orthanc's names."""

    def __init__(self, response: RestResponse) -> None:
        self._response = response

    def AnswerBuffer(self, content: bytes | str, mime_type: str) -> None:
        """Respond with status 200 and a body."""
        self._respond(_OK, content)
        self._response.headers["Content-Type"] = mime_type

    def SendHttpStatusCode(self, status: int) -> None:
        """Respond with a status and no body."""
        self._respond(status, b"")

    def SendHttpStatus(self, status: int, content: bytes | str, size: int | None = None) -> None:
        """Respond with a status and the first `size` bytes of a body."""
        encoded = content.encode() if isinstance(content, str) else content
        self._respond(status, encoded[:size])

    def SendMethodNotAllowed(self, allowed: str) -> None:
        """Respond with status 405 and the allowed methods."""
        self._respond(405, b"")
        self._response.headers["Allow"] = allowed

    def SendUnauthorized(self, realm: str) -> None:
        """Respond with status 401."""
        self._respond(401, b"")
        self._response.headers["WWW-Authenticate"] = f'Basic realm="{realm}"'

    def Redirect(self, location: str) -> None:
        """Respond with status 301."""
        self._respond(301, b"")
        self._response.headers["Location"] = location

    def SetHttpHeader(self, name: str, value: str) -> None:
        """Set a header of the response."""
        self._response.headers[name] = value

    def SetCookie(self, name: str, value: str) -> None:
        """Set a cookie of the response."""
        self._response.cookies[name] = value

    def SetHttpErrorDetails(self, details: str, log: int) -> None:
        """Do nothing: responses of the node have no error details."""

    def StartMultipartAnswer(self, sub_type: str, content_type: str) -> None:
        """Raise NOT_IMPLEMENTED."""
        raise failure(ErrorCode.NOT_IMPLEMENTED)

    def SendMultipartItem(self, content: bytes) -> None:
        """Raise NOT_IMPLEMENTED."""
        raise failure(ErrorCode.NOT_IMPLEMENTED)

    def CompressAndAnswerPngImage(self, *_image: object) -> None:
        """Raise NOT_IMPLEMENTED."""
        raise failure(ErrorCode.NOT_IMPLEMENTED)

    def CompressAndAnswerJpegImage(self, *_image: object) -> None:
        """Raise NOT_IMPLEMENTED."""
        raise failure(ErrorCode.NOT_IMPLEMENTED)

    def _respond(self, status: int, content: bytes | str) -> None:
        if self._response.status is not None:
            raise failure(ErrorCode.BAD_SEQUENCE_OF_CALLS)
        self._response.body = content.encode() if isinstance(content, str) else bytes(content)
        self._response.status = status
