"""The arguments that plugins give: checked as orthanc-python checks them. What raises, raises TypeError."""

from typing import Any

from plugin.orthanc_api.callbacks import Callback


def text(value: Any) -> str:
    """A str."""
    if not isinstance(value, str):
        raise TypeError(f"a str is asked for, not {type(value).__name__}")
    return value


def content_of(value: Any) -> bytes:
    """Bytes, or a str in UTF-8."""
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"bytes or a str are asked for, not {type(value).__name__}")
    return bytes(value)


def callback_of(value: Any) -> Callback:
    """Something to call."""
    if not callable(value):
        raise TypeError("something is asked for that can be called")
    return value  # type: ignore[no-any-return]
