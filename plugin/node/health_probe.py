"""Ask a process of the node on this machine how it is, as a container's health check does. Looks at nothing itself."""

import http.client
import json
import ssl

from pipeline.errors import SettingsWrong
from plugin.settings.sections import HttpSettings

_LARGEST_BYTES = 1 << 16
_ON_THIS_MACHINE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def what_is_wrong(settings: HttpSettings, timeout_s: float) -> tuple[str, ...]:
    """Sentences; none where all is well. Raises SettingsWrong where the settings leave nothing to ask."""
    if not settings.enabled or settings.port == 0:
        raise SettingsWrong("There is nothing to ask: set http.enabled = true, and a port other than 0.")
    host = _ON_THIS_MACHINE.get(settings.host, settings.host)
    where = f"{host}:{settings.port}"
    try:
        status, body = _get(host, settings, timeout_s)
        checks = json.loads(body)["checks"]
        wrong = tuple(f"{name}: {why}" for name, why in checks.items() if why != "ok")
    except (OSError, http.client.HTTPException) as exc:
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__
        return (f"Nothing answers on {where} ({why}).",)
    except (ValueError, TypeError, KeyError, AttributeError):
        return (f"What answers on {where} is no glionode.",)
    return wrong if wrong or status == http.client.OK else (f"{where} answered with HTTP {status}.",)


def _get(host: str, settings: HttpSettings, timeout_s: float) -> tuple[int, bytes]:
    if settings.tls_certificate:
        # Its certificate is for the name by which others call it, and it is told nothing that is secret.
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
