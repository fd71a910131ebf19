"""What a site may set for each destination, by kind: a DICOM peer, a web server, Orthanc."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from plugin.settings.values import (
    AeTitle,
    BaseUrl,
    Name,
    NameOrNone,
    Port,
    Seconds,
    Section,
    TlsClient,
    Token,
    WebServer,
)


class Destination(Section):
    """What every kind of destination has."""

    name: Name
    accepts_demonstration: bool = False
    """Send results of a demonstration model here; never for a PACS with patients in it."""

    @property
    def section_name(self) -> str:
        """Its name in messages about the settings."""
        return f"destinations.{self.name}"


class DestinationSettings(Destination, TlsClient):
    """A DICOM peer that gets the results by C-STORE."""

    ae_title: AeTitle
    host: str
    port: Port
    tls: bool = False
    """Send over TLS; the node checks the peer's certificate."""
    tls_server_name: str = ""
    """The name in the peer's certificate; empty: `host`."""
    storage_commitment: bool = False
    """Ask the peer to commit to what it stored; an object is delivered when the peer has. The peer reports on the
    association on which the node asked, or on one that it opens to the listener, which has to accept it."""
    commitment_timeout_s: Seconds = 600.0
    """Without a report for so many seconds, the node asks again."""

    @property
    def over_tls(self) -> bool:
        """Whether the setting says so."""
        return self.tls


class StowDestinationSettings(Destination, WebServer, Token):
    """A web server that gets the results by STOW-RS; it takes a bearer token, or a user and a password."""

    url: BaseUrl
    """Its DICOMweb service, the part before /studies."""
    max_bytes: Annotated[int, Field(ge=1)] = 64 << 20
    """Bytes of objects in one request at most; a larger object goes alone. At most the limit of a proxy before it."""


class OrthancDestinationSettings(Destination):
    """The Orthanc of [orthanc], or what it forwards results to."""

    via: Literal["orthanc"]
    modality: NameOrNone = ""
    """Forward to this one of its DicomModalities; with neither this nor `peer` the results stay in Orthanc."""
    peer: NameOrNone = ""
    """Forward to this one of its OrthancPeers."""
    storage_commitment: bool = False
    """Have Orthanc ask the modality to commit to what it stored; an object is delivered when the modality has."""
    commitment_timeout_s: Seconds = 60.0
    """Without a report for so many seconds, the node sends the object again."""


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
"""The tags above, which pydantic adds to the location of an error in a destination."""
