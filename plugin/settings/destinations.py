"""What a site may set of each destination, by its kind: a DICOM peer, a web server, Orthanc."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag

from plugin.settings.values import AeTitle, BaseUrl, Name, NameOrNone, Port, Seconds, Section


class _Destination(Section):
    name: Name
    accepts_demonstration: bool = False
    """Send results of a demonstration model here; never for a PACS with patients in it."""


class DestinationSettings(_Destination):
    """A DICOM peer that gets the results by C-STORE."""

    ae_title: AeTitle
    host: str
    port: Port
    tls: bool = False
    """Send over TLS; the peer's certificate is checked."""
    tls_ca: str = ""
    """PEM file of the authorities of its certificate; empty: those that the system trusts."""
    tls_server_name: str = ""
    """The name that its certificate has; empty: `host`."""
    tls_certificate: str = ""
    """PEM file of the certificate that the node shows, where the peer asks for one."""
    tls_key: str = ""
    storage_commitment: bool = False
    """Ask the peer to commit to what it stored; an object is delivered when it has. Its reports come to the listener,
    which has to let it in, or on the association on which was asked."""
    commitment_timeout_s: Seconds = 600.0
    """After so many seconds without a report it is asked for again."""


class StowDestinationSettings(_Destination):
    """A web server that gets the results by STOW-RS."""

    url: BaseUrl
    """Its DICOMweb service, the part before /studies."""
    tls_ca: str = ""
    """PEM file of the authorities of its certificate; empty: those that the system trusts."""
    tls_certificate: str = ""
    """PEM file of the certificate that the node shows, where the server asks for one."""
    tls_key: str = ""
    token_file: str = ""
    """File with a bearer token; read anew for each request."""
    token_variable: str = ""
    """Or the environment variable that holds it."""
    user: str = ""
    """For HTTP Basic authentication."""
    password_file: str = ""
    password_variable: str = ""


class OrthancDestinationSettings(_Destination):
    """The Orthanc of [orthanc], or what it sends results on to."""

    via: Literal["orthanc"]
    modality: NameOrNone = ""
    """From there on to this of its DicomModalities; with neither this nor `peer` they stay in it."""
    peer: NameOrNone = ""
    """From there on to this of its OrthancPeers."""
    storage_commitment: bool = False
    """Have Orthanc ask the modality to commit to what it stored; an object is delivered when it has."""
    commitment_timeout_s: Seconds = 60.0
    """After so many seconds without a report it is sent again."""


AnyDestination = DestinationSettings | StowDestinationSettings | OrthancDestinationSettings


def _kind_of_destination(value: Any) -> str:
    if isinstance(value, OrthancDestinationSettings) or (isinstance(value, dict) and "via" in value):
        return "orthanc"
    if isinstance(value, StowDestinationSettings) or (isinstance(value, dict) and "url" in value):
        return "stow"
    return "dicom"


DestinationByKind = Annotated[
    Annotated[DestinationSettings, Tag("dicom")]
    | Annotated[StowDestinationSettings, Tag("stow")]
    | Annotated[OrthancDestinationSettings, Tag("orthanc")],
    Discriminator(_kind_of_destination),
]
KINDS_OF_DESTINATION = ("dicom", "stow", "orthanc")
"""What pydantic adds to the place of an error in a destination."""
