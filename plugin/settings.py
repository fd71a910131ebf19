"""What a site may set. The only reader of the settings file and of the environment; opens no port and no database.

The models stand here and not beside their stages so that `glionode check-config` need not load a DICOM stack.
"""

import ipaddress
import os
import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from models.package import IntendedUse
from pipeline.errors import SettingsWrong

ENVIRONMENT_PREFIX = "GLIONODE_"
CONFIG_VARIABLE = "GLIONODE_CONFIG"
"""Names the settings file; the one variable with the prefix that is no setting."""

# PS3.5 6.2, value representation AE: at most 16 characters of the default repertoire, no backslash, not only blanks.
_AE_TITLE = re.compile(r"(?! *$)[ -\[\]-~]{1,16}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def _ae_title(value: str) -> str:
    if not _AE_TITLE.fullmatch(value):
        raise ValueError("an AE title has 1 to 16 printable ASCII characters, no backslash")
    return value.strip()


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("a name has letters, digits, '.', '_' and '-' only")
    return value


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Name = Annotated[str, AfterValidator(_name)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    """A table of the settings file. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListenerSettings(_Section):
    """Who may send, and where to."""

    ae_title: AeTitle = "GLIONODE"
    host: str = "127.0.0.1"
    """The address to listen on; anything beyond loopback needs `calling_ae_titles` or `insecure`."""
    port: Port = 11112
    """0 picks a free one; the line "listening as" names it."""
    check_called_ae_title: bool = True
    """Refuse senders that call the node by another name."""
    calling_ae_titles: tuple[AeTitle, ...] = ()
    """AE titles that may send; empty means any."""
    insecure: bool = False
    """Allow any sender on an address beyond loopback."""
    max_associations: int = Field(default=20, ge=1, le=1000)
    idle_timeout_s: Seconds = 60.0
    """An association without a message for this long is ended."""


class StorageSettings(_Section):
    """Where everything that the node keeps lies."""

    data_dir: str = ""
    """Empty: /var/lib/glionode for root, $XDG_STATE_HOME/glionode (~/.local/state/glionode) for others."""
    minimum_free_mb: int = Field(default=1024, ge=0)
    """Below this much free space C-STORE is answered with 0xA700 (out of resources), MiB."""


class StudySettings(_Section):
    """When a study counts as complete."""

    stable_after_s: Seconds = 30.0
    """Seconds without a new instance."""
    force_after_s: float = Field(default=3600.0, ge=0)
    """Seconds after the first instance at which a study is taken even if instances still come; 0: never."""
    rescan_every_s: Seconds = 300.0
    """How often all studies are compared with their jobs; new arrivals are looked at without waiting for it."""


class ChooseSettings(_Section):
    """How the series of a study are chosen."""

    rules_file: str = ""
    """A site's own rules, in the form of pipeline/rules.toml; they extend and override the bundled ones."""
    derive_adc: bool = True
    """Without an ADC map, compute one from a diffusion series with b = 0 and b around 1000."""


class ModelSettings(_Section):
    """Which model segments."""

    name: Name = "phantom-demo"
    installed_dir: str = ""
    """Folder of installed model packages. Empty: `models` in the data folder."""


class ComputeSettings(_Section):
    """Where the network runs."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    cpu_engine: Literal["torch", "openvino"] = "torch"
    """What runs the network on a CPU; OpenVINO needs the extra `cpu` and is about twice as fast."""


class DatabaseSettings(_Section):
    """Where jobs are kept."""

    url: str = ""
    """postgresql://...; empty: PostgreSQL embedded in the node, on a Unix socket in the data folder."""


class DeliverySettings(_Section):
    """How delivery is tried again."""

    retry_first_s: Seconds = 5.0
    """Wait after the first failure; doubled with each."""
    retry_longest_s: Seconds = 600.0
    give_up_after_h: Seconds = 72.0
    """After this many hours without success an object is left alone (state "dead")."""
    timeout_s: Seconds = 60.0
    """For a connection, a negotiation and each answer."""


class ShutdownSettings(_Section):
    """How long `serve` takes to end."""

    drain_s: Seconds = 20.0
    """For running associations and the running job; what is not done by then is done at the next start."""


class DestinationSettings(_Section):
    """A DICOM peer that gets the results."""

    name: Name
    ae_title: AeTitle
    host: str
    port: Port
    accepts_demonstration: bool = False
    """Send results of a demonstration model here; never for a PACS with patients in it."""


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
    database: DatabaseSettings = DatabaseSettings()
    delivery: DeliverySettings = DeliverySettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    destinations: tuple[DestinationSettings, ...] = ()

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


class Severity(StrEnum):
    """How bad a finding about the settings is."""

    ERROR = "error"
    """The node refuses to start."""
    WARNING = "warning"
    """The node starts, and does less than one might think."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the settings that a person should know."""

    severity: Severity
    key: str
    text: str


def load_settings(path: Path | None = None) -> Settings:
    """The settings of the file `path` (None: $GLIONODE_CONFIG, else no file) and the environment.

    Raises SettingsWrong, naming file, line, key and remedy.
    """
    if path is None and os.environ.get(CONFIG_VARIABLE):
        path = Path(os.environ[CONFIG_VARIABLE])
    text = ""
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
            raise SettingsWrong(f"The settings file {path} cannot be read: {why}.") from exc
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise SettingsWrong(f"{path} is not valid TOML: {exc}.") from exc
    _refuse_unknown_variables()
    try:
        settings = Settings(**document)
    except ValidationError as exc:
        raise SettingsWrong("\n".join(_explain(error, path, text) for error in exc.errors())) from exc
    except ValueError as exc:  # pydantic-settings: a variable that should hold JSON does not
        raise SettingsWrong(f"The environment cannot be read: {exc}. Lists are written as JSON.") from exc
    _refuse_repeated_destinations(settings)
    return settings


def check_settings(settings: Settings, intended_use: IntendedUse | None) -> tuple[Finding, ...]:
    """What is unsafe or surprising, errors first. `intended_use` is the model's, None where it is not known."""
    findings: list[Finding] = []
    listener = settings.listener
    if not is_loopback(listener.host) and not listener.insecure and not listener.calling_ae_titles:
        findings.append(
            Finding(
                Severity.ERROR,
                "listener.host",
                f"{listener.host} opens the node to the network and any AE title may send. List the senders in "
                "listener.calling_ae_titles, or say listener.insecure = true.",
            )
        )
    if settings.delivery.retry_longest_s < settings.delivery.retry_first_s:
        findings.append(
            Finding(Severity.ERROR, "delivery.retry_longest_s", "It is shorter than delivery.retry_first_s.")
        )
    for destination in settings.destinations:
        if destination.port == 0:
            findings.append(
                Finding(Severity.ERROR, f"destinations.{destination.name}.port", "Port 0 is no port to send to.")
            )
        if not may_receive(destination, intended_use):
            findings.append(
                Finding(
                    Severity.WARNING,
                    f"destinations.{destination.name}",
                    f"Nothing will be sent there: {refusal(destination)}",
                )
            )
    if not settings.destinations:
        findings.append(Finding(Severity.WARNING, "destinations", "There is none: results stay on this machine."))
    return tuple(sorted(findings, key=lambda finding: finding.severity is Severity.WARNING))


def may_receive(destination: DestinationSettings, intended_use: IntendedUse | None) -> bool:
    """Whether results of a model for this use may go there; an unknown model counts as a demonstration."""
    trusted = intended_use in (IntendedUse.RESEARCH, IntendedUse.CLINICAL)
    return trusted or destination.accepts_demonstration


def refusal(destination: DestinationSettings) -> str:
    """Why a demonstration model's results do not go to a destination, and what to do."""
    return (
        f"the model is a demonstration and destination {destination.name} does not accept its results; install a model "
        "for research or clinical use, or set accepts_demonstration = true there if no patient's images are in it."
    )


def is_loopback(host: str) -> bool:
    """Whether nothing outside this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refuse_unknown_variables() -> None:
    # pydantic-settings ignores a variable with the prefix whose first part is no field; a typing mistake would pass.
    sections = {name.upper() for name in Settings.model_fields}
    for variable in sorted(os.environ):
        if not variable.upper().startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        section = variable.upper().removeprefix(ENVIRONMENT_PREFIX).split("__")[0]
        if section not in sections:
            raise SettingsWrong(
                f"The environment variable {variable} is no setting; sections are {', '.join(sorted(sections))}, and "
                "a key follows after two underscores, as in GLIONODE_LISTENER__PORT."
            )


def _refuse_repeated_destinations(settings: Settings) -> None:
    names = [destination.name for destination in settings.destinations]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SettingsWrong(f"destinations: the name {repeated[0]} stands twice; give each destination its own.")


def _explain(error: Any, path: Path | None, text: str) -> str:
    location = [str(part) for part in error["loc"]]
    key = ".".join(location)
    where = "The environment"
    if path is not None:
        # What is missing has no line of its own; its table has.
        line = _line_of(text, error["loc"][:-1] if error["type"] == "missing" else error["loc"])
        where = f"{path}, line {line}" if line else f"{path} or the environment"
    if error["type"] == "extra_forbidden":
        return f"{where}: {key} is no setting of this version; see orthanc-config/glionode.toml for those there are."
    if error["type"] == "missing":
        return f"{where}: {key} is missing."
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {key}: {message}."


def _line_of(text: str, location: tuple[str | int, ...]) -> int | None:
    """The line of a key in TOML text, from 1, found by its table and name; None where it is not there."""
    names = [part for part in location if isinstance(part, str)]
    wanted_index = next((part for part in location if isinstance(part, int)), None)
    table, index = "", -1
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*(\[\[?)\s*([\w.-]+)\s*\]\]?", line)
        if header:
            table = header[2]
            index = index + 1 if header[1] == "[[" else -1
            if names == [table] and wanted_index in (None, index):
                return number
            continue
        key = re.match(r"\s*\"?([\w-]+)\"?\s*=", line)
        if (
            key
            and names == ([*table.split("."), key[1]] if table else [key[1]])
            and wanted_index
            in (
                None,
                index,
            )
        ):
            return number
    return None
