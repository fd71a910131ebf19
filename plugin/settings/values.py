"""The types that settings are made of: checked values, and groups of keys that several sections share."""

import ipaddress
import re
from abc import abstractmethod
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# PS3.5 6.2, value representation AE: at most 16 characters of the default repertoire, no backslash, not only spaces.
_AE_TITLE = re.compile(r"(?! *$)[ -\[\]-~]{1,16}")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def is_ae_title(text: str) -> bool:
    """Return whether a text is an AE title, and so safe to show and to log."""
    return _AE_TITLE.fullmatch(text) is not None


def _ae_title(value: str) -> str:
    if not is_ae_title(value):
        raise ValueError("an AE title has 1 to 16 printable ASCII characters, no backslash")
    return value.strip()


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("a name has letters, digits, '.', '_' and '-' only")
    return value


def _name_or_none(value: str) -> str:
    return _name(value) if value else ""


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as exc:
        raise ValueError(f"{value} is no address range such as 192.0.2.0/24, 192.0.2.10 or 2001:db8::/32") from exc


def _base_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or "@" in value or "?" in value or "#" in value:
        raise ValueError("a URL is written https://host/dicom-web, without a user, a password or a query")
    return value.rstrip("/")


def _base_url_or_none(value: str) -> str:
    return _base_url(value) if value else ""


def _host_name(value: str) -> str:
    if not _HOST_NAME.fullmatch(value):
        raise ValueError("a host is a name such as node.example, or an address, without a port and without '*'")
    return value.lower()


AeTitle = Annotated[str, AfterValidator(_ae_title)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
BaseUrlOrNone = Annotated[str, AfterValidator(_base_url_or_none)]
HostName = Annotated[str, AfterValidator(_host_name)]
Network = Annotated[str, AfterValidator(_network)]
Name = Annotated[str, AfterValidator(_name)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
NameOrNone = Annotated[str, AfterValidator(_name_or_none)]


class Section(BaseModel):
    """A table of the settings file. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsIdentity(Section):
    """The certificate that the node shows: as a server always, as a client where the server asks for one."""

    tls_certificate: str = ""
    """PEM file of the certificate and its chain. A server that has one speaks TLS only."""
    tls_key: str = ""
    """PEM file of its key, without a password."""


class TlsClient(TlsIdentity):
    """How the node checks the certificate of a server, and what it shows there."""

    tls_ca: str = ""
    """PEM file of the authorities that the server's certificate must come from; empty: those that the system trusts."""

    @property
    @abstractmethod
    def over_tls(self) -> bool:
        """Whether the node speaks TLS there."""


class Token(Section):
    """Where a bearer token is. The settings hold places, never secrets, so that they can be printed and copied."""

    token_file: str = ""
    """File with the token."""
    token_variable: str = ""
    """Or the environment variable that holds it."""


class Login(Section):
    """A user of HTTP Basic authentication, and where the password is."""

    user: str = ""
    password_file: str = ""
    """File with the password; read again for each connection."""
    password_variable: str = ""
    """Or the environment variable that holds it."""


class WebServer(TlsClient, Login):
    """A web server that the node sends requests to."""

    url: str

    @property
    def over_tls(self) -> bool:
        """Whether its URL is an https one."""
        return self.url.startswith("https:")
