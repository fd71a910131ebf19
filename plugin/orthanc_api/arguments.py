"""Check the arguments that a hosted plugin passes, as orthanc-python does. Each function raises TypeError."""

from typing import Any

from plugin.orthanc_api.callbacks import Callback


def as_text(value: Any) -> str:
    """Return a str as it is."""
    if not isinstance(value, str):
        raise TypeError(f"expected a str, not {type(value).__name__}")
    return value


def as_bytes(value: Any) -> bytes:
    """Return bytes as they are, and a str as UTF-8."""
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"expected bytes or a str, not {type(value).__name__}")
    return bytes(value)


def as_callback(value: Any) -> Callback:
    """Return a callable as it is."""
    if not callable(value):
        raise TypeError("expected a callable")
    return value  # type: ignore[no-any-return]
