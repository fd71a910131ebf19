"""What a check found, as one page for a person: numbers, findings and a picture of every case. Judges nothing."""

import io
import json
from collections import Counter
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from dicom_seg.contours import contour_map
from models.labels import LABELS
from models.training.dataset.check import CheckedCase, Finding, check_dataset
from models.training.dataset.dataset import Dataset
from models.training.dataset.manifest import DatasetBroken, Split
from models.training.report.html import heading, page, paragraph, picture, table
from models.training.report.slice_pictures import Colour, grey_slice, size_of, title_of, window_of

CHECK_FOLDER = "check"
PAGE_FILE = "index.html"
FINGERPRINT_FILE = "fingerprint.json"
_WIDTH_PX = 720
"""Of a case's picture; a thousand cases make a page of some 100 MB."""
_GREYS = 64
_PALETTE: tuple[Colour, ...] = ((60, 120, 240), (240, 200, 40), (230, 60, 50), (90, 200, 120))
"""For labels that are none of ours, by their place."""


def check_and_report(dataset: Dataset) -> tuple[Finding, ...]:
    """Check a data set and leave `check/index.html` and `check/fingerprint.json` in it. Raises DatasetBroken."""
    entries: list[str] = []
    found: dict[str, str] = {}
    volumes: list[tuple[float, ...]] = []

    def seen(checked: CheckedCase, findings: tuple[Finding, ...]) -> None:
        found[checked.case.case_id] = checked.fingerprint
        volumes.append(checked.volumes_ml)
        entries.append(_entry(checked, findings, dataset))

    findings = check_dataset(dataset, seen)
    fingerprints = {
        "dataset": dataset.fingerprint,
        "sound": not any(finding.wrong for finding in findings),
        "cases": found,
    }
    parts = [*_summary(dataset, findings, volumes), heading("Cases"), *_legend(dataset), *entries]
    folder = dataset.folder / CHECK_FOLDER
    try:
        folder.mkdir(exist_ok=True)
        (folder / FINGERPRINT_FILE).write_text(json.dumps(fingerprints, indent=1) + "\n", encoding="utf-8")
        (folder / PAGE_FILE).write_text(page("Check of a data set", parts), encoding="utf-8")
    except OSError as exc:
        raise DatasetBroken(f"{folder} cannot be written: {exc.strerror or exc}. Free some space.") from exc
    return findings


def _summary(dataset: Dataset, findings: tuple[Finding, ...], volumes: list[tuple[float, ...]]) -> list[str]:
    patients = {split: {case.patient for case in dataset.of(split)} for split in Split}
    rows = [(split.value, str(len(dataset.of(split))), str(len(patients[split]))) for split in Split]
    parts = [
        paragraph(
            f"Made from {dataset.manifest.source.value}; channels {', '.join(dataset.channels)}; voxels of "
            f"{dataset.spacing_mm:g} mm; fingerprint {dataset.fingerprint[:16]}."
        ),
        table(("split", "cases", "patients"), rows),
    ]
    if volumes:
        each = np.array(volumes)
        spread = [
            (title_of(label), *(f"{value:.1f}" for value in np.percentile(each[:, place], (0, 25, 50, 75, 100))))
            for place, label in enumerate(dataset.labels)
        ]
        parts.append(table(("label, ml", "least", "25 %", "median", "75 %", "most"), spread))
    wrong = [finding for finding in findings if finding.wrong]
    notices = [finding for finding in findings if not finding.wrong]
    parts.append(heading("Findings"))
    if not findings:
        parts.append(paragraph("Nothing was found wrong."))
    for title, some in (("Wrong", wrong), ("To look at", notices)):
        if some:
            counted = Counter((finding.case_id, finding.sentence) for finding in some)
            parts.append(table((title, "case"), [(sentence, case_id) for case_id, sentence in counted]))
    return parts


def _legend(dataset: Dataset) -> list[str]:
    colours = _colours(dataset.labels)
    items = ", ".join(
        f'<b style="color: rgb({",".join(map(str, colour))})">{escape(title_of(label))}</b>'
        for label, colour in zip(dataset.labels, colours, strict=True)
    )
    order = ", ".join(dataset.channels)
    return [f"<p>From left to right {order}, each on the slice with the most of all labels: {items}.</p>"]


def _entry(checked: CheckedCase, findings: tuple[Finding, ...], dataset: Dataset) -> str:
    case = checked.case
    sizes = " x ".join(str(size) for size in checked.masks.shape[1:])
    labels = ", ".join(
        f"{title_of(label)} {volume:.1f} ml" for label, volume in zip(dataset.labels, checked.volumes_ml, strict=True)
    )
    said = f"{case.case_id}: {case.split.value}, patient {case.patient}, {sizes} voxels; {labels}"
    return picture(_png(checked, dataset), f"Slices of case {case.case_id}", said) + "".join(
        paragraph(finding.sentence, "warning" if finding.wrong else "note") for finding in findings
    )


def _png(checked: CheckedCase, dataset: Dataset) -> bytes:
    amount = checked.masks.sum(axis=(0, 2, 3))
    index = int(amount.argmax()) if amount.any() else checked.masks.shape[1] // 2
    wide, high = size_of(next(iter(checked.volumes.values())).geometry)
    width = _WIDTH_PX // len(checked.volumes)
    size = (width, max(1, round(high * width / wide)))
    drawn = contour_map(checked.masks[:, index], size)
    panels = []
    for role, volume in checked.volumes.items():
        grey = np.asarray(grey_slice(volume, index, window_of(volume, role)).resize(size, Image.Resampling.LANCZOS))
        panels.append(np.where(drawn > 0, _GREYS - 1 + drawn, grey // (256 // _GREYS)).astype(np.uint8))
    picture = Image.fromarray(np.concatenate(panels, axis=1), "P")
    # A palette of our own: one that is fitted to the picture leaves out the few pixels of a small label's contour.
    greys = [level * 255 // (_GREYS - 1) for level in range(_GREYS) for _ in range(3)]
    picture.putpalette([*greys, *(part for colour in _colours(dataset.labels) for part in colour)])
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _colours(labels: tuple[str, ...]) -> tuple[Colour, ...]:
    ours = {label.name: label.colour_rgb for label in LABELS}
    return tuple(ours.get(label, _PALETTE[place % len(_PALETTE)]) for place, label in enumerate(labels))


def page_of(folder: Path) -> Path:
    """Where the page of a data set lies."""
    return folder / CHECK_FOLDER / PAGE_FILE
