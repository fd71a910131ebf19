"""Write a trained network as a model package (see `models.package`). Knows nothing of how it was trained."""

import importlib.metadata
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from models.install import verify_package
from models.package import CARD_FILE, FORMAT, NORMALISATION, PATIENTS_FILE, WEIGHTS_FILE, ModelPackage, read_package
from models.training.dataset.lineage import Lineage, lineage_json
from models.weights import pack_weights

LOG_FILE = "training_log.csv"

Fact = str | int | float


@dataclass(frozen=True, slots=True)
class Provenance:
    """How the weights came to be."""

    facts: tuple[tuple[str, Fact], ...]
    """The table [provenance] of model.toml: names (small letters and underscores) and values, in their order."""
    learned: Lineage | None = None
    """Whom from, where data sets say so."""


def code_version() -> str:
    """Return the version of glionode, and in a git checkout the commit, marked as dirty if files differ from it."""
    version = importlib.metadata.version("glionode")
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return version
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=root, capture_output=True, text=True, timeout=30, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version} ({described})"


def _toml_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _toml_list(values: tuple[object, ...]) -> str:
    return "[" + ", ".join(_toml_string(v) if isinstance(v, str) else str(v) for v in values) + "]"


def model_toml(package: ModelPackage, provenance: Provenance) -> str:
    """The text of `model.toml`; `models.package.read_package` reads the same package from it."""
    lines = [
        f"format = {FORMAT}",
        f"name = {_toml_string(package.name)}",
        f"version = {_toml_string(package.version)}",
        f"intended_use = {_toml_string(package.intended_use.value)}",
        f"summary = {_toml_string(package.summary)}",
        "",
        "[input]",
        f"channels = {_toml_list(tuple(role.value for role in package.channels))}",
        f"spacing_mm = {package.spacing_mm}",
        f"normalisation = {_toml_string(NORMALISATION)}",
        *([f"window = {package.window}"] if package.window is not None else []),
        *(["mirror = true"] if package.mirror else []),
        "",
        "[network]",
        f"init_filters = {package.network.init_filters}",
        f"blocks_down = {_toml_list(package.network.blocks_down)}",
        f"blocks_up = {_toml_list(package.network.blocks_up)}",
        f"upsample_mode = {_toml_string(package.network.upsample_mode)}",
        *([f"space_to_depth = {package.network.space_to_depth}"] if package.network.space_to_depth > 1 else []),
        "",
        "[weights]",
        f"sha256 = {_toml_string(package.weights_sha256)}",
    ]
    for label in package.labels:
        lines += ["", "[[output]]", f"label = {_toml_string(label.name)}", f"threshold = {label.threshold}"]
        if (asked := label.refinement) is not None:
            channels = _toml_list(tuple(role.value for role in asked.channels))
            lines.append(f"refinement = {{ channels = {channels}, weight = {asked.weight} }}")
    lines += ["", "[provenance]"]
    lines += [f"{key} = {_toml_string(v) if isinstance(v, str) else v}" for key, v in provenance.facts]
    return "\n".join(lines) + "\n"


def _ways_of_use(package: ModelPackage) -> Iterator[str]:
    for label in package.labels:
        if (asked := label.refinement) is not None:
            yield f"{label.name} from {label.threshold} refined by {'+'.join(asked.channels)} times {asked.weight}"


def write_package(
    package: ModelPackage,
    network: nn.Module,
    provenance: Provenance,
    log: Path | None,
    card: str | None = None,
    figures: tuple[Path, ...] = (),
) -> ModelPackage:
    """Write `package.folder`: model.toml, float16 weights, whom they learned from, the log, a card with its figures.

    Without `card`, it says "not evaluated"; `figures` are the pictures that it shows, by their names.
    `package.weights_sha256` is filled in. The folder is complete or untouched; what was there under these names is
    replaced. Returns the package as read back and verified.
    """
    content, sha256 = pack_weights(network, "; ".join(_ways_of_use(package)))
    packed = replace(package, weights_sha256=sha256)
    package.folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{package.name}-", dir=package.folder.parent))
    try:
        (staging / WEIGHTS_FILE).write_bytes(content)
        (staging / "model.toml").write_text(model_toml(packed, provenance), encoding="utf-8")
        if provenance.learned is not None:
            (staging / PATIENTS_FILE).write_text(lineage_json(provenance.learned, sha256), encoding="utf-8")
        nothing_known = (
            f"# {package.name} {package.version}: {package.intended_use.value}, not for patients\n\n"
            f"Not evaluated yet; `glionode evaluate` writes this card.\n"
        )
        (staging / CARD_FILE).write_text(nothing_known if card is None else card, encoding="utf-8")
        for figure in figures:
            shutil.copyfile(figure, staging / figure.name)
        if log is not None and log.is_file():
            shutil.copyfile(log, staging / LOG_FILE)
        verify_package(read_package(staging))
        package.folder.mkdir(exist_ok=True)
        # model.toml comes last: with its sha256 it says that the rest is in place.
        shown = (figure.name for figure in figures)
        for name in (WEIGHTS_FILE, PATIENTS_FILE, *shown, CARD_FILE, LOG_FILE, "model.toml"):
            if (staging / name).is_file():
                (staging / name).replace(package.folder / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return read_package(package.folder)
