"""Read model packages: folders of `model.toml`, `weights.safetensors` and `MODEL_CARD.md`."""

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from models.labels import ENHANCING_TUMOUR, Role
from models.network import NetworkSettings
from models.validation import StrictModel, describe_first_error

FORMAT = 1
"""Version of the package format; others are refused."""
NORMALISATION = "robust-head-1"
"""Name of the normalisation of `pipeline.normalise`; weights trained with another one are refused."""
WEIGHTS_FILE = "weights.safetensors"
CARD_FILE = "MODEL_CARD.md"
CURVES_FILE = "learning_curves.png"
"""Learning curves that the card shows; optional."""
PATIENTS_FILE = "patients.json"
"""Patients that the weights were trained on, as keyed hashes; see `models.training.dataset.lineage`. Optional."""
BUNDLED = Path(__file__).parent / "packages"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class IntendedUse(StrEnum):
    """The use that the makers of a package allow."""

    DEMONSTRATION = "demonstration"
    RESEARCH = "research"
    CLINICAL = "clinical"


class PackageBroken(ValueError):
    """A model package is incomplete or contradictory, or its weights do not match their sha256."""


@dataclass(frozen=True, slots=True)
class Refinement:
    """How a scan's own brightness corrects the network; see `pipeline.refine`."""

    channels: tuple[Role, ...]
    """One or two of the model's input channels, whose joint brightness is used."""
    weight: float
    """Weight of the log-likelihood ratio that is added to the network's logit."""


@dataclass(frozen=True, slots=True)
class OutputLabel:
    """An output channel of a network, with its own sigmoid."""

    name: str
    threshold: float
    """Probability from which a voxel belongs to the label."""
    refinement: Refinement | None = None
    """None leaves the network's probabilities as they are."""
    inferred_from: tuple[Role, ...] = ()
    """Input channels from which the network may infer the label in a study without the series that defines it; all of
    them must be there. Empty: the label is not reported of such a study."""


@dataclass(frozen=True, slots=True)
class SizeSensitivity:
    """In how many heads with a label of some size the model detected it, in an evaluation."""

    label: str
    above_ml: float
    """True volume of the label in the head."""
    up_to_ml: float | None
    """True volume up to which heads were counted; None without an upper limit."""
    heads: int
    detected: int


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """The content of `model.toml`: a trained network and what its use requires."""

    name: str
    version: str
    intended_use: IntendedUse
    summary: str
    channels: tuple[Role, ...]
    """Input channels in the order of the network's."""
    spacing_mm: float
    """Edge of the isotropic voxels of the network's input."""
    normalisation: str
    window: int | None
    """Edge of the sliding window, in voxels; None for a network that takes whole heads.

    Group norm computes its statistics over the whole input, so a network trained on crops fails on a whole head.
    """
    labels: tuple[OutputLabel, ...]
    """Output channels in the order of the network's."""
    network: NetworkSettings
    weights_sha256: str
    folder: Path
    sha256: str = ""
    """SHA-256 of `model.toml`, which names that of the weights: it identifies the package. Empty if never read."""
    mirror: bool = False
    """Whether logits are averaged with those of the mirror image, left to right."""
    optional: tuple[Role, ...] = ()
    """Channels that a study may lack; the network was trained without them, too."""
    presence: bool = False
    """Whether the network is told which channels are there, by one plane for each; see `pipeline.presence`."""
    sensitivity: tuple[SizeSensitivity, ...] = ()
    """Empty if it was not measured."""
    sensitivity_measured_on: str = ""

    @property
    def required(self) -> tuple[Role, ...]:
        """The channels that a study must have, in the order of `channels`."""
        return tuple(role for role in self.channels if role not in self.optional)

    @property
    def network_channels(self) -> int:
        """Number of input channels of the network, presence planes included."""
        return len(self.channels) * (2 if self.presence else 1)

    @property
    def refinements(self) -> tuple[Refinement | None, ...]:
        """The refinement of each label, in the order of `labels`."""
        return tuple(label.refinement for label in self.labels)

    @property
    def weights_path(self) -> Path:
        """Path of the weights."""
        return self.folder / WEIGHTS_FILE

    @property
    def weights_bytes(self) -> bytes:
        """The content of the weights' file, read and checked against `weights_sha256`. Raises PackageBroken."""
        try:
            content = self.weights_path.read_bytes()
        except OSError as exc:
            raise PackageBroken(f"Model {self.name}: {self.weights_path} cannot be read ({exc.strerror}).") from exc
        found = hashlib.sha256(content).hexdigest()
        if found != self.weights_sha256:
            raise PackageBroken(
                f"Model {self.name}: {self.weights_path} has sha256 {found[:12]}..., model.toml says "
                f"{self.weights_sha256[:12]}.... The weights were changed or damaged; install the package again."
            )
        return content


class _Input(StrictModel):
    channels: tuple[Role, ...]
    spacing_mm: float
    normalisation: str
    window: int | None = None
    mirror: bool = False
    optional: tuple[Role, ...] = ()
    presence: bool = False


class _Weights(StrictModel):
    sha256: str


class _Output(StrictModel):
    label: str
    threshold: float
    refinement: Refinement | None = None
    inferred_from: tuple[Role, ...] = ()


class _Size(StrictModel):
    label: str
    above_ml: float = Field(ge=0)
    up_to_ml: float | None = None
    heads: int = Field(ge=1)
    detected: int = Field(ge=0)


class _Sensitivity(StrictModel):
    measured_on: str = Field(min_length=1)
    sizes: tuple[_Size, ...] = Field(min_length=1)


class _PackageFile(StrictModel):
    """The document `model.toml`, key by key."""

    format: Literal[1]
    name: str
    version: str
    intended_use: IntendedUse
    summary: str = ""
    input: _Input
    network: NetworkSettings
    weights: _Weights
    output: tuple[_Output, ...] = Field(min_length=1)
    sensitivity: _Sensitivity | None = None
    provenance: dict[str, Any] = Field(default_factory=dict)
    """How the weights were trained, for readers; the node does not use it."""


def read_package(folder: Path) -> ModelPackage:
    """Read and check `model.toml` in `folder`, without reading the weights. Raises PackageBroken."""
    where = folder / "model.toml"
    try:
        content = where.read_bytes()
        document = tomllib.loads(content.decode("utf-8"))
    except FileNotFoundError as exc:
        raise PackageBroken(f"{folder} is no model package: it has no model.toml.") from exc
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise PackageBroken(f"{where} cannot be read: {exc}") from exc
    if document.get("format") != FORMAT:
        raise PackageBroken(f"{where}: format is {document.get('format')!r}; this version of glionode reads {FORMAT}.")
    try:
        # Of Python objects pydantic's strict mode takes neither lists as tuples nor strings as members of an enum.
        found = _PackageFile.model_validate_json(json.dumps(document, default=str))
    except ValidationError as exc:
        raise PackageBroken(f"{where}: {describe_first_error(exc)}.") from exc
    for key in ("init_filters", "blocks_down", "blocks_up", "upsample_mode"):
        if key not in document["network"]:  # the defaults of NetworkSettings are for new networks
            raise PackageBroken(f"{where}: network.{key} is missing.")
    package = ModelPackage(
        name=found.name,
        version=found.version,
        intended_use=found.intended_use,
        summary=found.summary,
        channels=found.input.channels,
        spacing_mm=found.input.spacing_mm,
        normalisation=found.input.normalisation,
        window=found.input.window,
        labels=tuple(
            OutputLabel(output.label, output.threshold, output.refinement, output.inferred_from)
            for output in found.output
        ),
        network=found.network,
        weights_sha256=found.weights.sha256,
        folder=folder,
        sha256=hashlib.sha256(content).hexdigest(),
        mirror=found.input.mirror,
        optional=found.input.optional,
        presence=found.input.presence,
        sensitivity=tuple(
            SizeSensitivity(size.label, size.above_ml, size.up_to_ml, size.heads, size.detected)
            for size in (found.sensitivity.sizes if found.sensitivity else ())
        ),
        sensitivity_measured_on=found.sensitivity.measured_on if found.sensitivity else "",
    )
    check_package(package, where)
    return package


def check_package(package: ModelPackage, where: Path) -> None:
    """Raise PackageBroken if `package`, read from `where`, contradicts itself; does not read the weights."""
    if not _NAME.fullmatch(package.name):
        raise PackageBroken(f"{where}: name must be small letters, digits, '.', '_' or '-', not {package.name!r}.")
    if len(set(package.channels)) != len(package.channels) or not package.channels:
        raise PackageBroken(f"{where}: input channels must be named once each.")
    if len({label.name for label in package.labels}) != len(package.labels):
        raise PackageBroken(f"{where}: output labels must be named once each.")
    if not all(0 < label.threshold < 1 for label in package.labels):
        raise PackageBroken(f"{where}: a threshold must lie between 0 and 1.")
    for asked in (label.refinement for label in package.labels if label.refinement is not None):
        if len(asked.channels) not in (1, 2) or len(set(asked.channels) & set(package.channels)) != len(asked.channels):
            raise PackageBroken(f"{where}: a refinement names one or two of the input channels, once each.")
        if not 0 < asked.weight <= 10:
            raise PackageBroken(f"{where}: the weight of a refinement must lie between 0 and 10.")
    _check_incomplete_studies(package, where)
    _check_sensitivity(package, where)
    if not 0.2 <= package.spacing_mm <= 5:
        raise PackageBroken(f"{where}: spacing_mm must lie between 0.2 and 5.")
    if package.normalisation != NORMALISATION:
        raise PackageBroken(f"{where}: normalisation {package.normalisation!r} is unknown; this is {NORMALISATION!r}.")
    if package.window is not None and (package.window < 32 or package.window % package.network.stride):
        raise PackageBroken(f"{where}: window must be a multiple of {package.network.stride} and at least 32.")


def _check_incomplete_studies(package: ModelPackage, where: Path) -> None:
    """Check what the package says of studies that lack a series."""
    if len(set(package.optional) & set(package.channels)) != len(package.optional):
        raise PackageBroken(f"{where}: optional channels are some of the input channels, once each.")
    if not package.required:
        raise PackageBroken(f"{where}: at least one input channel must not be optional.")
    if package.optional and not package.presence:
        raise PackageBroken(f"{where}: a network with optional channels needs presence = true; 0 is a value of images.")
    for label in package.labels:
        if len(set(label.inferred_from) & set(package.channels)) != len(label.inferred_from):
            raise PackageBroken(f"{where}: a label is inferred from some of the input channels, once each.")
        if label.inferred_from and label.name == ENHANCING_TUMOUR.name:
            raise PackageBroken(f"{where}: {label.name} is not inferred: what enhances is seen after contrast alone.")


def _check_sensitivity(package: ModelPackage, where: Path) -> None:
    for size in package.sensitivity:
        if size.label not in {label.name for label in package.labels} or size.detected > size.heads:
            raise PackageBroken(f"{where}: sensitivity is that of an output label, with no more detected than heads.")
        if size.up_to_ml is not None and size.up_to_ml <= size.above_ml:
            raise PackageBroken(f"{where}: in sensitivity, up_to_ml must be larger than above_ml.")


def list_packages(installed: Path | None) -> tuple[ModelPackage, ...]:
    """Return the packages in the folder `installed`, then the bundled ones, both sorted by name.

    Raises PackageBroken.
    """
    folders = [
        entry.parent
        for root in (installed, BUNDLED)
        if root is not None and root.is_dir()
        for entry in sorted(root.glob("*/model.toml"))
        if not entry.parent.name.startswith(".")
    ]
    return tuple(read_package(folder) for folder in folders)


def find_package(name: str, installed: Path | None) -> ModelPackage:
    """Return the package called `name`, preferring an installed one to a bundled one. Raises PackageBroken."""
    for root in (installed, BUNDLED):
        if root is not None and _NAME.fullmatch(name) and (root / name / "model.toml").is_file():
            return read_package(root / name)
    raise PackageBroken(f"There is no model package called {name!r}; `glionode models list` shows those there are.")
