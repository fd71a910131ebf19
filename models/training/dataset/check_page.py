"""Check a data set and write the result as an HTML page: numbers, findings and a picture of every case."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from models.training.dataset.check_dataset import CheckedCase, DatasetFinding, check_dataset
from models.training.dataset.contents import contents_tables
from models.training.dataset.dataset import Dataset
from models.training.dataset.manifest import DatasetBroken, Split
from models.training.report.html import render
from models.training.report.slice_pictures import (
    Outline,
    colours_of,
    grey_slice,
    in_few_colours,
    outlined,
    side_by_side,
    size_of,
    title_of,
    window_of,
)

CHECK_FOLDER = "check"
PAGE_FILE = "index.html"
FINGERPRINT_FILE = "fingerprint.json"
_WIDTH_PX = 720
"""Width of the picture of a case; a page of a thousand cases has about 100 MB."""
_GREYS = 64


def page_path(folder: Path) -> Path:
    """Return where the page of the data set in `folder` is written."""
    return folder / CHECK_FOLDER / PAGE_FILE


def check_and_report(dataset: Dataset) -> tuple[DatasetFinding, ...]:
    """Check a data set and write `check/index.html` and `check/fingerprint.json` into it. Raises DatasetBroken."""
    cases: list[dict[str, object]] = []
    fingerprints: dict[str, str] = {}
    volumes_ml: dict[str, list[float]] = {label: [] for label in dataset.labels}

    def add_case(checked: CheckedCase, findings: tuple[DatasetFinding, ...]) -> None:
        fingerprints[checked.case.case_id] = checked.fingerprint
        for label, volume in zip(checked.case.labels, checked.volumes_ml, strict=True):
            volumes_ml[label].append(volume)
        cases.append(
            {"png": _picture(checked, dataset.labels), "caption": _caption(checked, dataset), "findings": findings}
        )

    findings = check_dataset(dataset, add_case)
    sound = not any(finding.wrong for finding in findings)
    html = render(
        "dataset/check_page.html.jinja",
        title="Check of a data set",
        dataset=dataset,
        splits=[
            (split.value, len(dataset.of(split)), len({case.patient for case in dataset.of(split)})) for split in Split
        ],
        contents=contents_tables(dataset),
        quartiles=[
            (title_of(label), len(found), *(f"{value:.1f}" for value in np.percentile(found, (0, 25, 50, 75, 100))))
            for label, found in volumes_ml.items()
            if found
        ],
        wrong=_rows(findings, wrong=True),
        notices=_rows(findings, wrong=False),
        legend=list(zip(map(title_of, dataset.labels), colours_of(dataset.labels), strict=True)),
        cases=cases,
    )
    document = {"dataset": dataset.fingerprint, "sound": sound, "cases": fingerprints}
    folder = dataset.folder / CHECK_FOLDER
    try:
        folder.mkdir(exist_ok=True)
        (folder / FINGERPRINT_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        (folder / PAGE_FILE).write_text(html, encoding="utf-8")
    except OSError as exc:
        raise DatasetBroken(f"{folder} cannot be written: {exc.strerror or exc}. Free some disk space.") from exc
    return findings


def _rows(findings: tuple[DatasetFinding, ...], wrong: bool) -> list[tuple[str, str]]:
    """Return sentence and case of each finding, without repetitions."""
    return list(dict.fromkeys((each.sentence, each.case_id) for each in findings if each.wrong is wrong))


def _caption(checked: CheckedCase, dataset: Dataset) -> str:
    case = checked.case
    size = " x ".join(map(str, checked.masks.shape[1:]))
    lacks: list[str] = [role for role in dataset.channels if role not in case.channels]
    lacks += [title_of(label) for label in dataset.labels if label not in case.labels]
    volumes = [f"{title_of(name)} {ml:.1f} ml" for name, ml in zip(case.labels, checked.volumes_ml, strict=True)]
    return f"{case.case_id}: {case.split}, patient {case.patient}, {size} voxels; {', '.join(volumes)}" + (
        f"; it has no {' and no '.join(lacks)}" if lacks else ""
    )


def _picture(checked: CheckedCase, labels: tuple[str, ...]) -> bytes:
    """Return a PNG of all channels side by side, with contours, on the slice where the labels are largest."""
    area = checked.masks.sum(axis=(0, 2, 3))
    index = int(area.argmax()) if area.any() else checked.masks.shape[1] // 2
    columns, rows = size_of(next(iter(checked.volumes.values())).geometry)
    width = _WIDTH_PX // len(checked.volumes)
    size = (width, max(1, round(rows * width / columns)))
    colours = [colour for label, colour in zip(labels, colours_of(labels), strict=True) if label in checked.case.labels]
    outlines = [Outline(mask, colour) for mask, colour in zip(checked.masks[:, index], colours, strict=True)]
    panels = [
        outlined(grey_slice(volume, index, window_of(volume, role)).resize(size, Image.Resampling.LANCZOS), outlines)
        for role, volume in checked.volumes.items()
    ]
    stream = io.BytesIO()
    in_few_colours(side_by_side(panels, gap_px=0), _GREYS, colours).save(stream, "PNG", optimize=True)
    return stream.getvalue()
