"""The sections of the settings, each key with its type and default.

They are here and not beside the code that they are for, so that reading settings imports no DICOM library.
"""

import logging
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from models.labels import Role
from pipeline.align_settings import DEFAULT_SETTINGS as _ALIGN
from pipeline.align_settings import AlignSettings
from plugin.settings.destinations import DestinationByKind
from plugin.settings.values import (
    AeTitle,
    BaseUrlOrNone,
    HostName,
    Name,
    Network,
    Port,
    Seconds,
    Section,
    TlsIdentity,
    Token,
    WebServer,
)

_LOG = logging.getLogger(__name__)

ENVIRONMENT_PREFIX = "GLIONODE_"
CONFIG_VARIABLE = "GLIONODE_CONFIG"
"""Names the settings file; the only variable with the prefix that is not a setting."""


class SenderSettings(Section):
    """A peer that may send."""

    ae_title: AeTitle
    networks: tuple[Network, ...] = ()
    """Address ranges that it may send from; empty means any."""
    host: str = ""
    """Where it accepts storage commitment reports; empty: at the address of a destination with this AE title, else on
    the association on which it asked."""
    port: Port = 0
    tls: bool = False
    """Report over TLS, with the listener's certificate; the peer's certificate must come from `tls_client_ca`, or from
    an authority that the system trusts."""


CorrectedPatients = Literal["supersede", "keep", "refuse"]


class ListenerSettings(TlsIdentity):
    """Where the node listens for DICOM associations, and who may send."""

    ae_title: AeTitle = "GLIONODE"
    host: str = "127.0.0.1"
    """The address to listen on; one beyond loopback needs `calling_ae_titles`, `senders`, `tls_client_ca` or
    `insecure`."""
    port: Port = 11112
    """0 picks a free one; the log line "listening as" names it."""
    check_called_ae_title: bool = True
    """Refuse senders that call the node by another name."""
    calling_ae_titles: tuple[AeTitle, ...] = ()
    """AE titles that may send, from any address; empty, and no senders either: any AE title may."""
    senders: tuple[SenderSettings, ...] = ()
    """Peers that may send, each from its own addresses."""
    urgent_ae_titles: tuple[AeTitle, ...] = ()
    """AE titles whose studies go before all others, as those do whose headers say that they are urgent. The list does
    not allow anybody to send, so a node that accepts any sender can have it, too."""
    insecure: bool = False
    """Allow any sender on an address beyond loopback."""
    tls_client_ca: str = ""
    """PEM file of authorities; with it a sender needs a certificate from one of them."""
    corrected_patients: CorrectedPatients = "supersede"
    """What becomes of an image that comes again for another patient: it takes the place of the first, whose results are
    superseded; the first is kept, with success; or it is refused with 0xC005."""
    max_associations: int = Field(default=20, ge=1, le=1000)
    max_associations_per_peer: int = Field(default=16, ge=1, le=1000)
    """The same for associations from one address."""
    max_associations_per_ae_title: int = Field(default=16, ge=1, le=1000)
    """The same for associations of one calling AE title."""
    useless_timeout_s: Seconds = 300.0
    """An association is ended when no image and no storage commitment message came for this long, whatever else: a peer
    that only sends C-ECHO. One that goes on sending images may stay open for days."""
    negotiation_timeout_s: Seconds = 30.0
    """A connection that has not requested an association by then is closed (the ARTIM timer of PS3.8)."""
    idle_timeout_s: Seconds = 60.0
    """An association is aborted when no message comes for this long, one PDU takes as long, or less than 16 KiB of an
    image come in this time."""
    quarantine_files: int = Field(default=100, ge=0)
    """How many data sets that do not parse are kept in `quarantine` in the data folder; the oldest are removed."""
    quarantine_mb: int = Field(default=256, ge=0)
    """All of them together, MiB."""


class StorageSettings(Section):
    """The data folder, and when studies in it are purged."""

    data_dir: str = ""
    """Empty: /var/lib/glionode for root, $XDG_STATE_HOME/glionode (~/.local/state/glionode) for others."""
    minimum_free_mb: int = Field(default=1024, ge=0)
    """Below this much free space C-STORE is answered with 0xA700 (out of resources), MiB."""
    keep_days: float = Field(default=0.0, ge=0)
    """Received images and results are purged so many days after their delivery; 0: never."""
    purge_below_mb: int = Field(default=0, ge=0)
    """Below this much free space delivered studies are purged, the oldest first, MiB; 0: never."""


class StudySettings(Section):
    """When a study counts as complete."""

    stable_after_s: Seconds = 30.0
    """Seconds without a new instance."""
    force_after_s: float = Field(default=3600.0, ge=0)
    """Seconds after the first instance, after which a study counts as complete in any case; 0: never. Until then a
    quiet study waits for series that the model can do without; with 0 for none."""
    rescan_every_s: Seconds = 300.0
    """How often all studies are compared with their jobs; studies that get instances are checked at once."""


class ChooseSettings(Section):
    """How the series of a study are chosen."""

    rules_file: str = ""
    """Rules of the site, in the form of pipeline/rules.toml; they extend and override the bundled ones."""
    derive_adc: bool = True
    """Without an ADC map, compute one from a diffusion series with b = 0 and b around 1000."""
    min_coverage: float = Field(default=0.7, ge=0, le=1)
    """A study fails if one of its series shows less than this share of the head that the chosen series show together.
    Between this and the whole head the result says what was not seen."""


class AlignmentSettings(Section):
    """How series are registered to T1CE, and what is believed; the defaults are those of `AlignSettings`."""

    enabled: bool = _ALIGN.enabled
    """False uses the scanner's coordinates for every series, unchecked."""
    engine: Literal["torch", "simpleitk"] = _ALIGN.engine
    """What searches the motion; where its result is not believed, the other one is asked, too."""
    max_rotation_deg: float = Field(default=_ALIGN.max_rotation_deg, gt=0, le=180)
    max_translation_mm: float = Field(default=_ALIGN.max_translation_mm, gt=0)
    """Of the head's centre; only within one frame of reference."""
    min_gain: float = Field(default=_ALIGN.min_gain, ge=0)
    """Mutual information, nats."""
    min_overlap: float = Field(default=_ALIGN.min_overlap, ge=0, le=1)
    min_distinctness: float = Field(default=_ALIGN.min_distinctness, ge=0, le=1)
    resolution_mm: float = Field(default=_ALIGN.resolution_mm, ge=1, le=10)

    def for_pipeline(self) -> AlignSettings:
        """Return the settings in the form that the pipeline takes."""
        return AlignSettings(**self.model_dump())


class ModelSettings(Section):
    """Which model segments the studies."""

    name: Name = "phantom-demo"
    installed_dir: str = ""
    """Folder of installed model packages. Empty: `models` in the data folder."""
    require: tuple[Role, ...] = ()
    """Channels of the model, such as "ADC", that a study must have; empty: those that the package cannot do without."""


class ComputeSettings(Section):
    """Where the network runs, and how long a step may take."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the network; auto is bfloat16 where the processor or GPU has instructions for it. Either way bfloat16 is used
    only where it agrees with float32 on a sample."""
    step_limit_s: Seconds = 900.0
    """A worker that takes longer for one step of a study is ended, and the job has failed; where it waited for disk,
    network or device, or was stopped from outside, the job is tried again, three times at most."""

    @model_validator(mode="before")
    @classmethod
    def _without_engine(cls, values: Any) -> Any:
        """Accept the key `cpu_engine` of earlier versions, which chose OpenVINO, and say that it is not needed."""
        if not isinstance(values, dict) or "cpu_engine" not in values:
            return values
        _LOG.warning(
            "compute.cpu_engine has no effect any more, as PyTorch is as fast as OpenVINO was; remove it from the "
            "settings"
        )
        return {key: value for key, value in values.items() if key != "cpu_engine"}


class OutputsSettings(Section):
    """Which DICOM objects the node makes for a study."""

    seg_on: tuple[Literal["T1CE", "FLAIR", "ADC"], ...] = ("T1CE", "FLAIR", "ADC")
    """SEG on the slices of these series: on T1CE all labels, on FLAIR and ADC the label that is defined there."""
    measurements: bool = True
    """SR with volumes, lesion counts and ADC; it references the SEG on T1CE."""
    diameters: bool = True
    """SR with the two diameters of each measurable enhancing lesion."""
    capture: bool = True
    """Pictures with contours and a table, for viewers that show no SEG."""
    intermediate_adc: bool = False
    """Measure the volume of intermediate ADC inside enhancing tumour and ADC abnormality: an experiment, which is not
    validated."""
    intermediate_adc_below: float = Field(default=1.6, ge=0.5, le=4)
    """The upper limit of intermediate ADC, as a multiple of the median ADC of normal-looking white matter."""


class DatabaseSettings(Section):
    """Which database keeps the jobs."""

    url: str = ""
    """postgresql://...; empty: PostgreSQL embedded in the node, on a Unix socket in the data folder."""


class DeliverySettings(Section):
    """How often the node retries a delivery."""

    retry_first_s: Seconds = 5.0
    """Pause after the first failure; it doubles with each further one."""
    retry_longest_s: Seconds = 600.0
    give_up_after_h: Seconds = 72.0
    """After so many hours without success the node gives up on an object (state "dead")."""
    timeout_s: Seconds = 60.0
    """For a connection, an association negotiation, and each response."""
    hold_empty: bool = False
    """Whether a result in which nothing was found waits for `glionode release` instead of being sent."""


class HttpSettings(TlsIdentity, Token):
    """How a process serves health, metrics and the archive over HTTP, and where a worker reaches another's archive.

    The token opens /api and is the same on all hosts; it has 16 characters at least.
    """

    enabled: bool = False
    """Serve /health and /metrics, and under /api the archive, where this process has it and there is a token."""
    host: str = "127.0.0.1"
    """The address to serve on; one beyond loopback needs `tls_certificate` or `insecure`."""
    port: Port = 8114
    """0 picks a free one; the log line "health and metrics on" names it."""
    insecure: bool = False
    """Allow token and images to cross the network unencrypted."""
    allowed_hosts: tuple[HostName, ...] = ()
    """Names by which clients call this server, besides localhost, its addresses, `host` and this machine's name."""
    allow_without_token: Literal["", "anyone who reaches this port may read and delete patients"] = ""
    """With this sentence a hosted plugin's routes are served on loopback without a token: every user and program of
    this machine may then do what the plugin's routes do."""
    max_connections: int = Field(default=200, ge=40, le=1000)
    """Of these, 20 are for this machine alone."""
    max_connections_per_address: int = Field(default=50, ge=1, le=1000)
    stall_timeout_s: Seconds = 30.0
    """A connection is closed that takes longer for its TLS handshake or the head of a request, sends less than 16 KiB
    of a body in this time, or does not read a response."""
    archive_url: str = Field(default="", pattern=r"^(https?://[^/?#@\s]+)?$")
    """For `work` and `deliver`: where the process that listens serves HTTP. Empty: they share its data folder."""
    archive_tls_ca: str = ""
    """PEM file of the authorities of its certificate; empty: those that the system trusts."""
    timeout_s: Seconds = 30.0
    """For a connection to the archive, and for each part of a response."""


class OrthancSettings(WebServer):
    """An Orthanc beside the node: a script inside it submits studies, the node fetches them over its REST API.

    The user is one of its RegisteredUsers.
    """

    url: BaseUrlOrNone = ""
    """http://127.0.0.1:8042, or https://...; empty: there is none."""
    timeout_s: Seconds = 30.0
    """For a connection, and for each part of a response."""
    metadata: int = Field(default=4810, ge=1024, le=65535)
    """Number of the metadata of a study in which the node writes the outcome of its job; Orthanc's own end at 1023."""
    labels: bool = True
    """Whether studies get a label with the outcome, such as glionode-segmented, where Orthanc has labels (1.12)."""


class LoggingSettings(Section):
    """How the log is written."""

    format: Literal["text", "json"] = "text"
    """`json`: an object a line, for programs."""


class AlertSettings(Section):
    """When /health and `glionode status` warn. A warning refuses nothing and restarts nothing."""

    job_waits_s: Seconds = 3600.0
    """A job has waited this long."""
    delivery_waits_s: Seconds = 3600.0
    """An object of a result has waited this long for its destination."""
    free_mb: int = Field(default=4096, ge=0)
    """Less than this is free in the data folder, MiB; images are refused below `storage.minimum_free_mb`."""
    certificate_days: int = Field(default=30, ge=0)
    """A certificate expires within so many days."""
    silent_after_h: float = Field(default=0.0, ge=0)
    """No image has come for so many hours; 0: never."""


class ShutdownSettings(Section):
    """How long a process may take to shut down."""

    drain_s: Seconds = 20.0
    """From the signal to the end of the process. Open associations and the running job get all but the last 5 s, or
    half where that is more; a job that is not done by then runs again after the next start."""


class Settings(BaseSettings):
    """All settings. The environment (GLIONODE_LISTENER__PORT=104) overrides the file, the file overrides defaults."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    listener: ListenerSettings = ListenerSettings()
    storage: StorageSettings = StorageSettings()
    study: StudySettings = StudySettings()
    choose: ChooseSettings = ChooseSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    model: ModelSettings = ModelSettings()
    compute: ComputeSettings = ComputeSettings()
    outputs: OutputsSettings = OutputsSettings()
    database: DatabaseSettings = DatabaseSettings()
    delivery: DeliverySettings = DeliverySettings()
    http: HttpSettings = HttpSettings()
    orthanc: OrthancSettings = OrthancSettings()
    logging: LoggingSettings = LoggingSettings()
    alerts: AlertSettings = AlertSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    destinations: tuple[DestinationByKind, ...] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment before the file's content; no .env file, which would be a third place to look."""
        return env_settings, init_settings

    @property
    def data_dir(self) -> Path:
        """The folder of all files that the node keeps."""
        if self.storage.data_dir:
            return Path(self.storage.data_dir).expanduser().absolute()
        if os.geteuid() == 0:
            return Path("/var/lib/glionode")
        state = os.environ.get("XDG_STATE_HOME", "")
        return (Path(state) if state.startswith("/") else Path.home() / ".local/state") / "glionode"

    @property
    def rules_path(self) -> Path | None:
        """The file with the site's own rules for choosing series; None where there is none."""
        return Path(self.choose.rules_file).expanduser() if self.choose.rules_file else None

    @property
    def installed_models_dir(self) -> Path:
        """The folder of installed model packages."""
        return Path(self.model.installed_dir).expanduser() if self.model.installed_dir else self.data_dir / "models"
