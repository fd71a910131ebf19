"""Request /health from the node process on this machine, for the health check of a container."""

import http.client
import json
import queue
import ssl
import threading
from contextlib import closing
from dataclasses import dataclass
from enum import IntEnum

from pipeline.errors import SettingsWrong
from plugin.settings.sections import HttpSettings

_LARGEST_BYTES = 1 << 16
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class Outcome(IntEnum):
    """What came of the request; the values are exit statuses. Docker reserves 2."""

    HEALTHY = 0
    UNHEALTHY = 1
    """The node says what is wrong."""
    NOT_THERE = 3
    """Nothing listens on the port."""
    NO_ANSWER = 4
    """There is a connection, and no answer in time."""
    NOT_GLIONODE = 5
    TLS_FAILS = 6


@dataclass(frozen=True, slots=True)
class Probe:
    """The outcome, and a sentence for each problem; none where the node is healthy."""

    outcome: Outcome
    problems: tuple[str, ...] = ()


def probe_health(settings: HttpSettings, timeout_s: float) -> Probe:
    """Return whether the node is healthy, and what is wrong. `timeout_s` bounds the whole of it.

    Raises:
        SettingsWrong: the node serves no HTTP on a known port.
    """
    if not settings.enabled or settings.port == 0:
        raise SettingsWrong(
            "The settings do not serve HTTP on a known port: set http.enabled = true, and a port other than 0."
        )
    host = _LOOPBACK.get(settings.host, settings.host)
    where = f"{host}:{settings.port}"
    answer: queue.SimpleQueue[Probe] = queue.SimpleQueue()
    # In a thread: the timeout of a socket would start anew with each byte that a server sends.
    threading.Thread(target=lambda: answer.put(_request(host, where, settings, timeout_s)), daemon=True).start()
    try:
        return answer.get(timeout=timeout_s)
    except queue.Empty:
        return _no_answer(where, timeout_s)


def _request(host: str, where: str, settings: HttpSettings, timeout_s: float) -> Probe:
    try:
        return _read(where, *_get(host, settings, timeout_s))
    except TimeoutError:
        return _no_answer(where, timeout_s)
    except ssl.SSLError as exc:
        why = exc.reason or "the connection ended in the handshake"
        text = f"The server on {where} does not speak TLS with us ({why}), as http.tls_certificate says it would."
        return Probe(Outcome.TLS_FAILS, (text,))
    except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
        text = f"The server on {where} closes the connection without an answer; it may speak TLS, or be overloaded."
        return Probe(Outcome.NO_ANSWER, (text,))
    except http.client.HTTPException:
        return _not_glionode(where)
    except OSError as exc:
        text = f"Nothing listens on {where} ({exc.strerror or type(exc).__name__}). Start the node, or see its log."
        return Probe(Outcome.NOT_THERE, (text,))


def _read(where: str, status: int, body: bytes) -> Probe:
    try:
        checks = json.loads(body)["checks"]
        problems = tuple(f"{name}: {why}" for name, why in checks.items() if why != "ok")
    except (ValueError, TypeError, KeyError, AttributeError):
        return _not_glionode(where)
    if not problems and status != http.client.OK:
        problems = (f"{where} answered with HTTP {status}.",)
    return Probe(Outcome.UNHEALTHY if problems else Outcome.HEALTHY, problems)


def _no_answer(where: str, timeout_s: float) -> Probe:
    text = f"The server on {where} gives no answer within {timeout_s:g} s: it hangs, or the machine is overloaded."
    return Probe(Outcome.NO_ANSWER, (text,))


def _not_glionode(where: str) -> Probe:
    return Probe(Outcome.NOT_GLIONODE, (f"The server on {where} is not a glionode; another program has http.port.",))


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
    with closing(connection):
        connection.request("GET", "/health")
        answer = connection.getresponse()
        return answer.status, answer.read(_LARGEST_BYTES)
