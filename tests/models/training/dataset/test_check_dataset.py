"""The check reports every error of a data set, and nothing for a sound one."""

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.labels import PAPER_LABELS, Role
from models.training.dataset.check_dataset import DatasetFinding
from models.training.dataset.check_page import check_and_report
from models.training.dataset.contents import contents_tables
from models.training.dataset.dataset import Dataset, read_dataset
from models.training.dataset.manifest import Annotator
from models.training.dataset.nifti import read_nifti, write_nifti
from models.training.dataset.splits import Shares
from models.training.dataset.writer import NewCase
from pipeline.volume import Geometry
from tests.support.small_cases import NAMES, ROLES, lacking, new_case

Write = Callable[..., Path]
LARGER = Geometry.axial((16, 20, 18), (1.0, 1.0, 1.0), (3.5, -7.25, 11.0), "")
"""Large enough for a head with air around it."""


def head_case(number: int, patient: str = "") -> NewCase:
    """A head: bright within a ball, dark outside, with a lesion in it."""
    case = new_case(number, patient, LARGER)
    places = np.stack(np.meshgrid(*(np.arange(size) - (size - 1) / 2 for size in LARGER.shape), indexing="ij"))
    inside = (places**2).sum(axis=0) < 49
    t1ce = (case.channels[Role.T1CE] + 600) * inside
    masks = {name: mask & inside for name, mask in case.masks.items()}
    return replace(case, channels={**case.channels, Role.T1CE: t1ce.astype(np.float32)}, masks=masks)


def found(dataset: Dataset) -> list[DatasetFinding]:
    return [finding for finding in check_and_report(dataset) if "No case is in" not in finding.sentence]


def sentences(folder: Path) -> list[str]:
    return [f"{'wrong' if each.wrong else 'notice'}: {each.sentence}" for each in found(read_dataset(folder))]


def change(path: Path, edit: Callable[[np.ndarray], np.ndarray], move_mm: float = 0.0) -> None:
    voxels, geometry = read_nifti(path)
    x, y, z = geometry.origin_mm
    write_nifti(edit(voxels.copy()), replace(geometry, origin_mm=(x + move_mm, y, z)), path)


def test_a_sound_data_set_passes_and_is_shown(write_dataset: Write) -> None:
    folder = write_dataset(*(head_case(number) for number in range(5)), shares=Shares(0.2, 0.2))
    dataset = read_dataset(folder)
    assert check_and_report(dataset) == ()
    page = (folder / "check" / "index.html").read_text()
    assert page.count("<img") == 5
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "the page fetches something"
    assert all(case.case_id in page for case in dataset.cases)
    written = json.loads((folder / "check" / "fingerprint.json").read_text())
    assert (written["sound"], written["dataset"]) == (True, dataset.fingerprint)
    assert written["cases"] == {case.case_id: case.entry.fingerprint for case in dataset.cases}
    assert check_and_report(dataset) == (), "a second check finds the first one's page"


def test_pictures_show_each_label_in_its_colour_at_its_place(write_dataset: Write) -> None:
    """Blocks of voxels, one within the other, are painted on all channels where they are and nowhere else."""
    blocks = {NAMES[0]: (slice(12, 16), slice(11, 15)), NAMES[1]: (slice(9, 18), slice(8, 17)), NAMES[2]: None}
    masks = {}
    for name, block in blocks.items():
        masks[name] = np.zeros(LARGER.shape, bool)
        if block is not None:
            masks[name][(slice(7, 9), *block)] = True
    folder = write_dataset(replace(head_case(1), masks=masks))
    check_and_report(read_dataset(folder))
    encoded = re.findall(r"base64,([^\"]+)", (folder / "check" / "index.html").read_text())[0]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")).astype(int)
    third = pixels.shape[1] / len(ROLES)
    for label in PAPER_LABELS:
        rows, columns = np.nonzero((pixels == label.colour_rgb).all(axis=2))
        if (block := blocks[label.name]) is None:
            assert not len(rows)
            continue
        for panel in range(len(ROLES)):
            here = (columns >= panel * third) & (columns < (panel + 1) * third)
            across = (columns[here] + 0.5 - panel * third) / third * LARGER.shape[2]
            down = (rows[here] + 0.5) / pixels.shape[0] * LARGER.shape[1]
            for found, side in ((down, block[0]), (across, block[1])):
                assert found.min() == pytest.approx(side.start, abs=0.15)
                assert found.max() == pytest.approx(side.stop, abs=0.15)


def test_changed_voxels_and_places_are_found(write_dataset: Write) -> None:
    folder = write_dataset(head_case(1))
    case = read_dataset(folder).cases[0]

    def broken(name: str, edit: Callable[[np.ndarray], np.ndarray], move_mm: float = 0.0) -> list[str]:
        path = case.folder / name
        whole = path.read_bytes()
        change(path, edit, move_mm)
        said = sentences(folder)
        path.write_bytes(whole)
        return said

    def scaled(voxels: np.ndarray) -> np.ndarray:
        return (voxels / 1000).astype(np.float32)

    def infinite(voxels: np.ndarray) -> np.ndarray:
        voxels[5, 5, 5] = np.inf
        return voxels

    assert any("ADC has a median of" in each and "wrong" in each for each in broken("channel-ADC.nii.gz", scaled))
    assert any("FLAIR holds infinite" in each for each in broken("channel-FLAIR.nii.gz", infinite))
    assert any("no value in 100 %" in each for each in broken("channel-FLAIR.nii.gz", lambda v: v * np.float32(np.nan)))
    assert any("is on another grid than" in each for each in broken("channel-FLAIR.nii.gz", lambda v: v, 0.5))
    assert any("other values than 0 and 1" in each for each in broken(f"label-{NAMES[0]}.nii.gz", lambda v: v * 2))
    (said,) = broken(f"label-{NAMES[0]}.nii.gz", lambda v: np.flip(v, 0))
    assert said == "wrong: Its voxels do not match their fingerprint in dataset.json. Copy or make it again."
    for name in NAMES:
        change(case.folder / f"label-{name}.nii.gz", lambda v: v, 0.5)
    assert any("its labels are on another grid than its channels" in each for each in sentences(folder))


def test_labels_that_need_review_are_reported(write_dataset: Write) -> None:
    case = head_case(1)
    corner = np.zeros(LARGER.shape, bool)
    corner[:3, :3, :3] = True
    channels = {**case.channels, Role.FLAIR: np.where(case.masks[NAMES[2]], np.nan, case.channels[Role.FLAIR])}
    masks = {NAMES[0]: corner, NAMES[1]: corner & False, NAMES[2]: case.masks[NAMES[2]]}
    annotators = {NAMES[0]: Annotator.PERSON, NAMES[1]: Annotator.NOBODY, NAMES[2]: Annotator.NODE}
    assert sentences(write_dataset(replace(case, channels=channels, masks=masks, annotators=annotators))) == [
        "notice: 100 % of enhancing_tumour is outside of the head. Does it belong to another case?",
        "notice: adc_abnormality is empty, because nobody annotated it.",
        "notice: flair_hyperintensity is the node's own segmentation, and no person changed it.",
        "notice: 100 % of flair_hyperintensity is where FLAIR has no value.",
    ]


def test_cases_that_lack_something_are_checked_for_what_they_have(write_dataset: Write) -> None:
    cases = (lacking(head_case(1), Role.ADC, NAMES[1]), head_case(2), lacking(head_case(3), *NAMES[:2]))
    folder = write_dataset(*cases)
    assert sentences(folder) == []
    page = (folder / "check" / "index.html").read_text()
    assert re.search(r"<td>ADC abnormality</td>\s*<td[^>]*>1</td>", page)
    assert re.search(r"<td>FLAIR hyperintensity</td>\s*<td[^>]*>3</td>", page)
    combinations, drawn = contents_tables(read_dataset(folder))
    assert combinations.rows == [
        ("1", "x", "x", "x", "x", "x", "x"),
        ("1", "x", "x", "x", "-", "-", "x"),
        ("1", "-", "x", "x", "x", "-", "x"),
        ("3 in all", "2", "3", "3", "2", "1", "3"),
    ]
    assert drawn.rows == [(NAMES[0], "2", "1"), (NAMES[1], "1", "2"), (NAMES[2], "3", "0")]
    lacks = next(case for case in read_dataset(folder).cases if Role.ADC not in case.channels)
    (lacks.folder / "channel-ADC.nii.gz").write_bytes((lacks.folder / "channel-T1CE.nii.gz").read_bytes())
    (said,) = sentences(folder)
    assert re.fullmatch(r"wrong: .*channel-ADC\.nii\.gz is not listed in dataset\.json.*", said)


def test_images_under_another_fingerprint_are_found(write_dataset: Write) -> None:
    folder = write_dataset(head_case(1))
    written = json.loads((folder / "dataset.json").read_text())
    (entry,) = written["cases"].values()
    entry["images"]["ADC"] = entry["images"]["FLAIR"]
    (folder / "dataset.json").write_text(json.dumps(written))
    (said,) = sentences(folder)
    assert said.startswith("wrong: The fingerprints of its images in dataset.json are not those")


def test_duplicate_patients_and_images_are_found(write_dataset: Write) -> None:
    folder = write_dataset(*(head_case(number) for number in range(4)), shares=Shares(0.25))
    written = json.loads((folder / "dataset.json").read_text())
    one, other = written["splits"]["train"][0], written["splits"]["validation"][0]
    written["cases"][one]["patient"] = written["cases"][other]["patient"]
    (folder / "dataset.json").write_text(json.dumps(written))
    (folder / "cases" / other / "channel-T1CE.nii.gz").write_bytes(
        (folder / "cases" / one / "channel-T1CE.nii.gz").read_bytes()
    )
    (folder / "cases" / "stray").mkdir()
    said = sentences(folder)
    assert any(re.search(r"wrong: Patient \w+ is in train and validation", each) for each in said)
    assert any("wrong: Its T1CE equals that of case" in each for each in said)
    assert any("wrong: dataset.json was changed by hand" in each for each in said)
    assert any("notice: The folder cases/stray is not listed" in each for each in said)


def test_the_fingerprint_covers_source_and_annotators(write_dataset: Write) -> None:
    folder = write_dataset(head_case(1))
    whole = json.loads((folder / "dataset.json").read_text())
    (case_id,) = whole["cases"]
    entry = whole["cases"][case_id]
    drawn = {**entry["drawn"], NAMES[0]: "node"}
    for change in ({"source": "brats"}, {"cases": {case_id: {**entry, "drawn": drawn}}}):
        (folder / "dataset.json").write_text(json.dumps(whole | change))
        assert "wrong: dataset.json was changed by hand: its fingerprint does not match. Make it again." in sentences(
            folder
        )
    backwards = {case_id: {**entry, "drawn": dict(reversed(entry["drawn"].items()))}}
    (folder / "dataset.json").write_text(json.dumps(whole | {"cases": backwards}))
    assert not any("by hand" in each for each in sentences(folder))


def test_one_scan_that_was_processed_twice_is_suspected(write_dataset: Write) -> None:
    case = head_case(1)
    t1ce = case.channels[Role.T1CE]
    again = (t1ce * 1.7 + np.random.default_rng(1).normal(0, 5, t1ce.shape)).astype(np.float32)
    twin = replace(head_case(2), channels={**head_case(2).channels, Role.T1CE: again})
    (said,) = sentences(write_dataset(case, twin, head_case(3)))
    assert said.startswith("notice: Its T1CE nearly equals that of")


def test_a_cavity_under_the_number_of_enhancing_tumour_is_pointed_out(write_dataset: Write) -> None:
    """Fluid is dark on T1CE. Where label numbers were misread, every case says so."""
    case = head_case(1)
    enhancing = case.masks["enhancing_tumour"]
    t1ce = np.where(enhancing, 0.4 * case.channels[Role.T1CE], case.channels[Role.T1CE]).astype(np.float32)
    folder = write_dataset(replace(case, channels={**case.channels, Role.T1CE: t1ce}))
    (sentence,) = sentences(folder)
    assert sentence.startswith("notice: enhancing_tumour is darker on T1CE than the rest of the head")
