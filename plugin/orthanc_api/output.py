"""The RestOutput that a plugin's REST callback answers by; it keeps the answer, and whoever has asked sends it."""

from dataclasses import dataclass, field

from plugin.orthanc_api.errors import ErrorCode, failure

_OK = 200


@dataclass(slots=True)
class Answer:
    """What a plugin answers."""

    status: int | None = None
    """None: the callback has not answered."""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        """Whether it is an answer that the REST API gives to plugins."""
        return self.status == _OK


class RestOutput:
    """Fills an answer; the names of its methods are Orthanc's."""

    def __init__(self, answer: Answer) -> None:
        self._given = answer

    def AnswerBuffer(self, content: bytes | str, mime_type: str) -> None:
        """Answer with a body."""
        self._answer(_OK, content)
        self._given.headers["Content-Type"] = mime_type

    def SendHttpStatusCode(self, status: int) -> None:
        """Answer with a status and no body."""
        self._answer(status, b"")

    def SendHttpStatus(self, status: int, content: bytes | str, size: int | None = None) -> None:
        """Answer with a status and a body, of which so many bytes are sent."""
        encoded = content.encode() if isinstance(content, str) else content
        self._answer(status, encoded[:size])

    def SendMethodNotAllowed(self, allowed: str) -> None:
        """Answer 405 and say which methods are."""
        self._answer(405, b"")
        self._given.headers["Allow"] = allowed

    def SendUnauthorized(self, realm: str) -> None:
        """Answer 401."""
        self._answer(401, b"")
        self._given.headers["WWW-Authenticate"] = f'Basic realm="{realm}"'

    def Redirect(self, location: str) -> None:
        """Answer 301."""
        self._answer(301, b"")
        self._given.headers["Location"] = location

    def SetHttpHeader(self, name: str, value: str) -> None:
        """A header of the answer."""
        self._given.headers[name] = value

    def SetCookie(self, name: str, value: str) -> None:
        """A cookie of the answer."""
        self._given.cookies[name] = value

    def SetHttpErrorDetails(self, details: str, log: int) -> None:
        """Nothing here: the node's answers have no details of errors."""

    def StartMultipartAnswer(self, sub_type: str, content_type: str) -> None:
        """Not here."""
        raise failure(ErrorCode.NOT_IMPLEMENTED)

    def SendMultipartItem(self, content: bytes) -> None:
        """Not here."""
        raise failure(ErrorCode.NOT_IMPLEMENTED)

    def CompressAndAnswerPngImage(self, *_image: object) -> None:
        """Not here."""
        raise failure(ErrorCode.NOT_IMPLEMENTED)

    def CompressAndAnswerJpegImage(self, *_image: object) -> None:
        """Not here."""
        raise failure(ErrorCode.NOT_IMPLEMENTED)

    def _answer(self, status: int, content: bytes | str) -> None:
        if self._given.status is not None:
            raise failure(ErrorCode.BAD_SEQUENCE_OF_CALLS)
        self._given.body = content.encode() if isinstance(content, str) else bytes(content)
        self._given.status = status
