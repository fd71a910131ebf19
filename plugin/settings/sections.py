"""What a site may set, and each default. Opens no file, no port and no database.

The models stand here and not beside their stages so that `glionode check-config` need not load a DICOM stack.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from plugin.settings.destinations import DestinationByKind
from plugin.settings.values import AeTitle, BaseUrlOrNone, Name, Network, Port, Seconds, Section

ENVIRONMENT_PREFIX = "GLIONODE_"
CONFIG_VARIABLE = "GLIONODE_CONFIG"
"""Names the settings file; the one variable with the prefix that is no setting."""


class SenderSettings(Section):
    """A peer that may send."""

    ae_title: AeTitle
    networks: tuple[Network, ...] = ()
    """Address ranges that it may send from; empty means any."""
    host: str = ""
    """Where it takes reports on storage commitment; empty: where a destination of this AE title is, else on the
    association on which it asked."""
    port: Port = 0
    tls: bool = False
    """Report over TLS, with the listener's own certificate; the peer's must be of `tls_client_ca`, or of an authority
    that the system trusts."""


class ListenerSettings(Section):
    """Who may send, and where to."""

    ae_title: AeTitle = "GLIONODE"
    host: str = "127.0.0.1"
    """The address to listen on; beyond loopback needs `calling_ae_titles`, `senders`, `tls_client_ca` or `insecure`."""
    port: Port = 11112
    """0 picks a free one; the line "listening as" names it."""
    check_called_ae_title: bool = True
    """Refuse senders that call the node by another name."""
    calling_ae_titles: tuple[AeTitle, ...] = ()
    """AE titles that may send, from any address; empty, with no senders either, means any."""
    senders: tuple[SenderSettings, ...] = ()
    """Peers that may send, with the addresses that they may send from."""
    urgent_ae_titles: tuple[AeTitle, ...] = ()
    """AE titles whose studies go before all others, as those do whose headers say that they are urgent. It lets nobody
    in; a list of its own, so that a node which anybody may send to can have it."""
    insecure: bool = False
    """Allow any sender on an address beyond loopback."""
    tls_certificate: str = ""
    """PEM file of the node's certificate and its chain; with it the listener speaks TLS only."""
    tls_key: str = ""
    """PEM file of its key, without a password."""
    tls_client_ca: str = ""
    """PEM file of authorities; with it a sender needs a certificate of one of them."""
    max_associations: int = Field(default=20, ge=1, le=1000)
    max_associations_per_peer: int = Field(default=16, ge=1, le=1000)
    """From one address."""
    negotiation_timeout_s: Seconds = 30.0
    """A connection that has asked for no association by then is closed (the standard's ARTIM timer)."""
    idle_timeout_s: Seconds = 60.0
    """An association without a message for this long, or with one PDU that takes as long, is ended."""
    quarantine_files: int = Field(default=100, ge=0)
    """Copies of what does not parse that are kept in `quarantine` in the data folder; the oldest go first."""
    quarantine_mb: int = Field(default=256, ge=0)
    """All of them together, MiB."""


class StorageSettings(Section):
    """Where everything that the node keeps lies."""

    data_dir: str = ""
    """Empty: /var/lib/glionode for root, $XDG_STATE_HOME/glionode (~/.local/state/glionode) for others."""
    minimum_free_mb: int = Field(default=1024, ge=0)
    """Below this much free space C-STORE is answered with 0xA700 (out of resources), MiB."""
    keep_days: float = Field(default=0.0, ge=0)
    """Received images and results are removed so many days after their delivery; 0: never."""
    purge_below_mb: int = Field(default=0, ge=0)
    """Below this much free space delivered studies are removed, the oldest first, MiB; 0: never."""


class StudySettings(Section):
    """When a study counts as complete."""

    stable_after_s: Seconds = 30.0
    """Seconds without a new instance."""
    force_after_s: float = Field(default=3600.0, ge=0)
    """Seconds after the first instance at which a study is taken even if instances still come; 0: never."""
    rescan_every_s: Seconds = 300.0
    """How often all studies are compared with their jobs; new arrivals are looked at without waiting for it."""


class ChooseSettings(Section):
    """How the series of a study are chosen."""

    rules_file: str = ""
    """A site's own rules, in the form of pipeline/rules.toml; they extend and override the bundled ones."""
    derive_adc: bool = True
    """Without an ADC map, compute one from a diffusion series with b = 0 and b around 1000."""


class ModelSettings(Section):
    """Which model segments."""

    name: Name = "phantom-demo"
    installed_dir: str = ""
    """Folder of installed model packages. Empty: `models` in the data folder."""


class ComputeSettings(Section):
    """Where the network runs."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    cpu_engine: Literal["torch", "openvino"] = "torch"
    """What runs the network on a CPU; OpenVINO needs the extra `cpu` and is about twice as fast."""
    step_limit_s: Seconds = 900.0
    """A worker that takes longer for one step of a study is ended; after three times the study's job is failed."""


class OutputsSettings(Section):
    """Which objects are made of a study."""

    seg_on: tuple[Literal["T1CE", "FLAIR", "ADC"], ...] = ("T1CE", "FLAIR", "ADC")
    """SEG on the slices of these series: all labels on T1CE, on FLAIR and ADC the label that is defined there."""
    measurements: bool = True
    """SR with volumes, lesions and ADC; it refers to the SEG on T1CE."""
    diameters: bool = True
    """SR with the two diameters of each measurable enhancing lesion."""
    capture: bool = True
    """Pictures with contours and a table, for viewers that show no SEG."""


class DatabaseSettings(Section):
    """Where jobs are kept."""

    url: str = ""
    """postgresql://...; empty: PostgreSQL embedded in the node, on a Unix socket in the data folder."""


class DeliverySettings(Section):
    """How delivery is tried again."""

    retry_first_s: Seconds = 5.0
    """Wait after the first failure; doubled with each."""
    retry_longest_s: Seconds = 600.0
    give_up_after_h: Seconds = 72.0
    """After this many hours without success an object is left alone (state "dead")."""
    timeout_s: Seconds = 60.0
    """For a connection, a negotiation and each answer."""


class HttpSettings(Section):
    """Health, metrics, and for hosts without a shared disk the archive: how a process serves them, how it asks."""

    enabled: bool = False
    """Serve /health and /metrics, and under /api the archive, where this process has it and there is a token."""
    host: str = "127.0.0.1"
    """The address to serve on; beyond loopback needs `tls_certificate` or `insecure`."""
    port: Port = 8114
    """0 picks a free one; the line "health and metrics on" names it."""
    insecure: bool = False
    """Allow token and images to cross the network in the clear."""
    tls_certificate: str = ""
    """PEM file of the server's certificate and its chain; with it the server speaks TLS only."""
    tls_key: str = ""
    """PEM file of its key, without a password."""
    token_file: str = ""
    """File with the token that opens /api, the same on all hosts: 16 characters at least."""
    token_variable: str = ""
    """Or the environment variable that holds it."""
    archive_url: str = Field(default="", pattern=r"^(https?://[^/?#@\s]+)?$")
    """For `work` and `deliver`: where the process that listens serves HTTP. Empty: they share its data folder."""
    archive_tls_ca: str = ""
    """PEM file of the authorities of its certificate; empty: those that the system trusts."""
    timeout_s: Seconds = 30.0
    """For a connection, and for each part of an answer of the archive."""


class OrthancSettings(Section):
    """An Orthanc beside the node: its plugin names studies, the node fetches them over its REST API."""

    url: BaseUrlOrNone = ""
    """http://127.0.0.1:8042, or https://...; empty: there is none."""
    user: str = ""
    """For HTTP Basic authentication: one of its RegisteredUsers."""
    password_file: str = ""
    """File with the password; read anew for each job."""
    password_variable: str = ""
    """Or the environment variable that holds it."""
    tls_ca: str = ""
    """PEM file of the authorities of its certificate; empty: those that the system trusts."""
    tls_certificate: str = ""
    """PEM file of the certificate that the node shows, where Orthanc asks for one."""
    tls_key: str = ""
    timeout_s: Seconds = 30.0
    """For a connection, and for each part of an answer."""
    metadata: int = Field(default=4810, ge=1024, le=65535)
    """Number of the metadata of a study in which the node writes what became of it; Orthanc's own end at 1023."""


class LoggingSettings(Section):
    """How the log is written."""

    format: Literal["text", "json"] = "text"
    """`json`: an object a line, for programs."""


class ShutdownSettings(Section):
    """How long `serve` takes to end."""

    drain_s: Seconds = 20.0
    """For running associations and the running job; what is not done by then is done at the next start."""


class Settings(BaseSettings):
    """All of it. The environment (GLIONODE_LISTENER__PORT=104) goes before the file, the file before the defaults."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    listener: ListenerSettings = ListenerSettings()
    storage: StorageSettings = StorageSettings()
    study: StudySettings = StudySettings()
    choose: ChooseSettings = ChooseSettings()
    model: ModelSettings = ModelSettings()
    compute: ComputeSettings = ComputeSettings()
    outputs: OutputsSettings = OutputsSettings()
    database: DatabaseSettings = DatabaseSettings()
    delivery: DeliverySettings = DeliverySettings()
    http: HttpSettings = HttpSettings()
    orthanc: OrthancSettings = OrthancSettings()
    logging: LoggingSettings = LoggingSettings()
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
        """The environment before what the file says; no .env file, which would be a third place to look."""
        return env_settings, init_settings

    @property
    def data_dir(self) -> Path:
        """The folder of everything that the node keeps."""
        if self.storage.data_dir:
            return Path(self.storage.data_dir).expanduser().absolute()
        if os.geteuid() == 0:
            return Path("/var/lib/glionode")
        state = os.environ.get("XDG_STATE_HOME", "")
        return (Path(state) if state.startswith("/") else Path.home() / ".local/state") / "glionode"

    @property
    def rules_path(self) -> Path | None:
        """The site's own rules for choosing series, if there are any."""
        return Path(self.choose.rules_file).expanduser() if self.choose.rules_file else None

    @property
    def installed_models_dir(self) -> Path:
        """The folder of installed model packages."""
        return Path(self.model.installed_dir).expanduser() if self.model.installed_dir else self.data_dir / "models"
