"""Request /health from the node process on this machine, for the health check of a container."""

import http.client
import json
import ssl

from pipeline.errors import SettingsWrong
from plugin.settings.sections import HttpSettings

_LARGEST_BYTES = 1 << 16
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def probe_health(settings: HttpSettings, timeout_s: float) -> tuple[str, ...]:
    """Return what is wrong with the node, one sentence for each problem; nothing if it is healthy.

    Raises:
        SettingsWrong: the node serves no HTTP on a known port.
    """
    if not settings.enabled or settings.port == 0:
        raise SettingsWrong(
            "The settings do not serve HTTP on a known port: set http.enabled = true, and a port other than 0."
        )
    host = _LOOPBACK.get(settings.host, settings.host)
    where = f"{host}:{settings.port}"
    try:
        status, body = _get(host, settings, timeout_s)
        checks = json.loads(body)["checks"]
        problems = tuple(f"{name}: {why}" for name, why in checks.items() if why != "ok")
    except (OSError, http.client.HTTPException) as exc:
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__
        return (f"Nothing answers on {where} ({why}).",)
    except (ValueError, TypeError, KeyError, AttributeError):
        return (f"The server on {where} is not a glionode.",)
    return problems if problems or status == http.client.OK else (f"{where} answered with HTTP {status}.",)


def _get(host: str, settings: HttpSettings, timeout_s: float) -> tuple[int, bytes]:
    if settings.tls_certificate:
        # The certificate names the public host name, not the loopback address, and the request contains no secret.
        unverified = ssl.create_default_context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, settings.port, timeout=timeout_s, context=unverified
        )
    else:
        connection = http.client.HTTPConnection(host, settings.port, timeout=timeout_s)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        return answer.status, answer.read(_LARGEST_BYTES)
    finally:
        connection.close()
