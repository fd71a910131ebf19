"""Write a trained network as a model package (see `models.package`)."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import tomli_w
from torch import nn

from models.install import verify_package
from models.package import (
    CARD_FILE,
    FORMAT,
    NORMALISATION,
    PATIENTS_FILE,
    WEIGHTS_FILE,
    ModelPackage,
    OutputLabel,
    read_package,
)
from models.training.dataset.lineage import Lineage, lineage_json
from models.weights import pack_weights

LOG_FILE = "training_log.csv"

Fact = str | int | float


@dataclass(frozen=True, slots=True)
class Provenance:
    """How the weights were made."""

    facts: tuple[tuple[str, Fact], ...]
    """The table [provenance] of model.toml: names (small letters and underscores) and values, in their order."""
    lineage: Lineage | None = None
    """The patients whom they learned from; None if there were none."""


def model_toml(package: ModelPackage, provenance: Provenance) -> str:
    """Return the text of `model.toml`, from which `models.package.read_package` reads the same package."""
    network = package.network
    return tomli_w.dumps(
        {
            "format": FORMAT,
            "name": package.name,
            "version": package.version,
            "intended_use": package.intended_use.value,
            "summary": package.summary,
            "input": {
                "channels": [role.value for role in package.channels],
                "spacing_mm": package.spacing_mm,
                "normalisation": NORMALISATION,
                **({"window": package.window} if package.window is not None else {}),
                **({"mirror": True} if package.mirror else {}),
                **({"optional": [role.value for role in package.optional]} if package.optional else {}),
                **({"presence": True} if package.presence else {}),
            },
            "network": {
                "init_filters": network.init_filters,
                "blocks_down": network.blocks_down,
                "blocks_up": network.blocks_up,
                "upsample_mode": network.upsample_mode,
                **({"space_to_depth": network.space_to_depth} if network.space_to_depth > 1 else {}),
            },
            "weights": {"sha256": package.weights_sha256},
            "output": [_output(label) for label in package.labels],
            "provenance": dict(provenance.facts),
        }
    )


def _output(label: OutputLabel) -> dict[str, object]:
    output: dict[str, object] = {"label": label.name, "threshold": label.threshold}
    if label.refinement is not None:
        channels = [role.value for role in label.refinement.channels]
        output["refinement"] = {"channels": channels, "weight": label.refinement.weight}
    if label.inferred_from:
        output["inferred_from"] = [role.value for role in label.inferred_from]
    return output


def _uses(package: ModelPackage) -> Iterator[str]:
    """Yield how the weights are used beyond their shape; it goes into their sha256 (see `models.weights`)."""
    if package.optional:
        yield f"without {' or '.join(package.optional)}"
    for label in package.labels:
        if label.inferred_from:
            yield f"{label.name} inferred from {'+'.join(label.inferred_from)}"
        if (used := label.refinement) is not None:
            yield f"{label.name} from {label.threshold} refined by {'+'.join(used.channels)} times {used.weight}"


def write_package(
    package: ModelPackage,
    network: nn.Module,
    provenance: Provenance,
    log: Path | None,
    card: str | None = None,
    figures: tuple[Path, ...] = (),
) -> ModelPackage:
    """Write `package.folder` and return the package as read back and verified.

    The folder gets model.toml, the weights in float16, the patients that they learned from, the log, and the card with
    its figures; without `card`, one that says "not evaluated". `package.weights_sha256` is filled in. Nothing is
    written unless all of it verifies; files of these names are replaced.
    """
    content, sha256 = pack_weights(network, "; ".join(_uses(package)))
    packed = replace(package, weights_sha256=sha256)
    package.folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{package.name}-", dir=package.folder.parent))
    try:
        (staging / WEIGHTS_FILE).write_bytes(content)
        (staging / "model.toml").write_text(model_toml(packed, provenance), encoding="utf-8")
        if provenance.lineage is not None:
            (staging / PATIENTS_FILE).write_text(lineage_json(provenance.lineage, sha256), encoding="utf-8")
        not_evaluated = (
            f"# {package.name} {package.version}: {package.intended_use.value}, not for patients\n\n"
            f"Not evaluated yet; `glionode evaluate` writes this card.\n"
        )
        (staging / CARD_FILE).write_text(not_evaluated if card is None else card, encoding="utf-8")
        for figure in figures:
            shutil.copyfile(figure, staging / figure.name)
        if log is not None and log.is_file():
            shutil.copyfile(log, staging / LOG_FILE)
        verify_package(read_package(staging))
        package.folder.mkdir(exist_ok=True)
        # model.toml comes last: its sha256 says that the rest is in place.
        figure_names = (figure.name for figure in figures)
        for name in (WEIGHTS_FILE, PATIENTS_FILE, *figure_names, CARD_FILE, LOG_FILE, "model.toml"):
            if (staging / name).is_file():
                (staging / name).replace(package.folder / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return read_package(package.folder)
