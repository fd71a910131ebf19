"""Whatever form a radiologist's drawing comes in, the same voxels come of it, where they were drawn."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from pydicom import dcmread

from dicom_seg.seg import encode_seg
from dicom_seg.source_headers import read_headers
from dicom_seg.write import write_dicom
from models.labels import ADC_ABNORMALITY, ENHANCING_TUMOUR, FLAIR_HYPERINTENSITY, LABELS, Label, Role
from models.package import IntendedUse
from models.training.dataset.annotation import LabelNames
from models.training.dataset.dataset import Case, Dataset, read_dataset
from models.training.dataset.file_annotations import Values
from models.training.dataset.from_dicom import CHANNELS, DicomSettings, convert_dicom
from models.training.dataset.manifest import Annotator, DatasetBroken, DatasetSource
from models.training.dataset.pseudonyms import Pseudonyms
from models.training.dataset.splits import Shares
from models.training.dataset.writer import DatasetWriter, SkippedStudy
from models.training.synthetic.head import SyntheticHead, synthesise
from models.training.synthetic.tumour import Variant
from pipeline.align import AlignSettings
from pipeline.choose import Selected, choose
from pipeline.errors import ModelUnusable
from pipeline.measure import dice
from pipeline.read import read_volume
from pipeline.result import MasksOnSeries, ModelIdentity, SegmentationResult, SourceSeries
from pipeline.rules import load_rules
from pipeline.scan import scan
from tests.support.annotated_study import (
    GEOMETRIES,
    SECRET,
    DrawnStudy,
    in_folder,
    itk_image,
    moved,
    renamed,
    write_dcmqi_seg,
    write_highdicom_seg,
    write_nifti_maps,
    write_nrrd_mask,
    write_slicer_segmentation,
    write_study,
)

NAMES = tuple(label.name for label in LABELS)
RULES = load_rules(None)
SETTINGS = DicomSettings(rules=RULES, spacing_mm=2.5, align=AlignSettings(enabled=False))
"""In the scanner's coordinates: what is expected can be told without the registration."""
MOTION = moved(9.0, (10.0, -8.0, 6.0))
"""Of the patient before the ADC map."""
COARSE = AlignSettings(resolution_mm=6)
"""With registration, quick."""
Convert = Callable[..., tuple[Dataset, tuple[SkippedStudy, ...]]]


@pytest.fixture(scope="module")
def head() -> SyntheticHead:
    return synthesise(5, Variant.UNIFOCAL, 3.0)


@pytest.fixture(scope="module")
def lasting(head: SyntheticHead, tmp_path_factory: pytest.TempPathFactory) -> DrawnStudy:
    return write_study(tmp_path_factory.mktemp("studies") / "dicom", head, {Role.ADC: MOTION})


@pytest.fixture(scope="module")
def registered(lasting: DrawnStudy, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A case that was aligned by registration."""
    folder = tmp_path_factory.mktemp("registered")
    study = in_folder(lasting, folder / "in" / "one")
    for label in LABELS:
        write_nifti_maps(study, label)
    settings = replace(SETTINGS, spacing_mm=3.0, align=COARSE)
    writer = DatasetWriter(folder / "out", DatasetSource.DICOM, settings.channels, NAMES, Pseudonyms(b"k" * 32))
    assert convert_dicom(folder / "in", scan([folder / "in"]), writer, settings, lambda *_: None) == ()
    writer.finish(Shares(), seed=1)
    return read_dataset(folder / "out").cases[0]


@pytest.fixture
def study(lasting: DrawnStudy, tmp_path: Path) -> DrawnStudy:
    return in_folder(lasting, tmp_path / "in" / "one")


@pytest.fixture
def convert(tmp_path: Path) -> Convert:
    runs = iter(range(100))

    def run(settings: DicomSettings = SETTINGS) -> tuple[Dataset, tuple[SkippedStudy, ...]]:
        out = tmp_path / f"out{next(runs)}"
        writer = DatasetWriter(out, DatasetSource.DICOM, settings.channels, settings.labels, Pseudonyms(b"k" * 32))
        skipped = run.skipped = convert_dicom(
            tmp_path / "in", scan([tmp_path / "in"]), writer, settings, lambda *_: None
        )
        writer.finish(Shares(), seed=1)
        return read_dataset(out), skipped

    return run


def refusal(convert: Convert, settings: DicomSettings = SETTINGS) -> str:
    """Why the only study does not become a case."""
    with pytest.raises(DatasetBroken, match="There is no case"):
        convert(settings)
    (skipped,) = convert.skipped  # type: ignore[attr-defined]
    return str(skipped.reason)


def expected(study: DrawnStudy, label: Label, case: Case, on: Role | None = None) -> np.ndarray:
    """What is drawn on the label's own series, or another, on the case's grid, by ITK: where half of it is inside."""
    role = on or label.defined_on
    image = itk_image(study.mask(label, role).astype(np.float32), GEOMETRIES[role])
    grid = itk_image(np.zeros(case.geometry.shape, np.float32), case.geometry)
    return sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, 0.0)) >= 0.5


def draw_all(form: str, study: DrawnStudy, program: Callable[[str], str], work: Path) -> None:
    """Each label on the series that defines it, in one of the forms."""
    for label in LABELS:
        if form == "nifti":
            write_nifti_maps(study, label)
        elif form == "nrrd":
            write_nrrd_mask(study, label)
        elif form == "slicer":
            segments = {f"not {label.name}": study.mask(label) & False, label.title: study.mask(label)}
            write_slicer_segmentation(study, label.defined_on, segments, f"drawing{label.number}")
        elif form == "dcmqi":
            write_dcmqi_seg(program, study, label, label.title, work / label.name)
        elif form == "ours":
            write_own_seg(study, label.defined_on, (label,))
        else:
            masks = {label.title: study.mask(label)}
            write_highdicom_seg(study, label.defined_on, masks, form.upper())


def write_own_seg(study: DrawnStudy, role: Role, labels: tuple[Label, ...], shift: int = 0) -> Path:
    """As the node writes it."""
    selected = choose(scan([study.folder]).studies[0], tuple(GEOMETRIES), RULES)
    assert isinstance(selected, Selected)
    sources = []
    drawn = np.stack([study.mask(label, role) for label in labels])
    for choice in selected.choices:
        volume = read_volume(choice.series, choice.role)
        sources.append(SourceSeries(choice.role, choice.series, volume.geometry, volume.frames, choice.why))
        if choice.role is role and np.dot(volume.geometry.slice_step_mm, GEOMETRIES[role].slice_step_mm) < 0:
            drawn = drawn[:, ::-1]  # the node counts slices along the normal
    masks = np.roll(drawn, shift, axis=2)
    identity = ModelIdentity("m", "1", "ab" * 32, IntendedUse.RESEARCH)
    result = SegmentationResult(study.study, tuple(sources), (), masks, (), identity, "cpu")
    on = MasksOnSeries(role, labels, masks)
    # A node that runs years after the study: later than whatever a person drew.
    seg = encode_seg(result, on, read_headers(result.source(role)), datetime(2031, 2, 3, tzinfo=UTC))
    path = study.folder / f"own_{role}_{shift}.dcm"
    write_dicom(seg, path)
    return path


@pytest.mark.parametrize("form", ["nifti", "nrrd", "slicer", "dcmqi", "binary", "fractional", "labelmap", "ours"])
def test_every_form_puts_every_label_where_it_was_drawn(
    form: str, study: DrawnStudy, convert: Convert, program: Callable[[str], str], tmp_path: Path
) -> None:
    draw_all(form, study, program, tmp_path / "work")
    dataset, skipped = convert(replace(SETTINGS, accept_own=form == "ours"))
    assert skipped == ()
    (case,) = dataset.cases
    who = Annotator.NODE if form == "ours" else Annotator.PERSON
    assert case.entry.annotators == tuple((name, who) for name in NAMES)
    for label, mask in zip(LABELS, case.masks(NAMES), strict=True):
        wanted = expected(study, label, case)
        assert mask.sum() > 200
        # Both interpolate; where ours smooths thin voxels first, a voxel of the surface may fall the other way.
        assert dice(mask, wanted) > 0.985, label
        for axis in range(3):
            assert dice(np.roll(mask, 1, axis), wanted) < 0.95, "the test would not see a shift"
            assert dice(np.flip(mask, axis), wanted) < 0.95, "the test would not see a flip"


def test_numbers_are_those_that_the_node_sees(registered: Case, lasting: DrawnStudy, tmp_path: Path) -> None:
    """The network of a node, asked for its input, was given exactly what training reads."""
    assert torch.equal(registered.normalised(CHANNELS), served_input(lasting.folder, tmp_path / "segmented", 3.0))


def served_input(folder: Path, out: Path, spacing_mm: float) -> torch.Tensor:
    """What reaches the network when `process_study` segments the study in a folder."""
    from plugin.jobs.prior_results import PriorResults
    from plugin.settings.sections import Settings
    from plugin.worker.context import open_worker_context
    from plugin.worker.process_study import process_study
    from plugin.worker.stopwatch import Stopwatch

    workshop = replace(open_worker_context(Settings(), device="cpu"), align=COARSE)
    workshop.model.package = replace(workshop.model.package, channels=CHANNELS, spacing_mm=spacing_mm, window=None)
    seen: list[torch.Tensor] = []

    def network(channels: torch.Tensor) -> torch.Tensor:
        seen.append(channels[0].clone())
        raise ModelUnusable("it has seen enough")

    workshop.model.on = lambda device: network  # type: ignore[method-assign,assignment]
    report = process_study(scan([folder]).studies[0], workshop, out, Stopwatch(), PriorResults(datetime.now(UTC)))
    assert report.reason == "it has seen enough"
    (channels,) = seen
    return channels


def test_a_label_is_moved_with_its_series(registered: Case, lasting: DrawnStudy, head: SyntheticHead) -> None:
    """The patient turned and slid before the ADC map; what is drawn on it goes where T1CE has it."""
    wanted = head.truth(registered.geometry)[LABELS.index(ADC_ABNORMALITY)]
    (found,) = registered.masks((ADC_ABNORMALITY.name,))
    # Drawn on voxels of 4.5 mm and found by registration to within a millimetre.
    assert dice(found, wanted) > 0.85
    assert dice(expected(lasting, ADC_ABNORMALITY, registered), wanted) < 0.7, "it would pass without registration"


def test_nothing_of_the_patient_leaves(study: DrawnStudy, convert: Convert, tmp_path: Path) -> None:
    draw_all("nifti", study, lambda name: name, tmp_path)
    dataset, _ = convert()
    texts = [SECRET.encode(), study.study.encode(), b"19600102", b"20240304", study.folder.name.encode() + b"/"]
    files = [path for path in dataset.folder.rglob("*") if path.is_file()]
    assert len(files) == 1 + 3 + 3
    for path in files:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert not [text for text in texts if text in content + str(path.relative_to(dataset.folder)).encode()], path


def test_a_persons_correction_goes_before_ours_whatever_the_dates(study: DrawnStudy, convert: Convert) -> None:
    """Ours is on all three series; the person changed one label on T1CE, and what else ours says was seen and left."""
    for label in LABELS:
        write_own_seg(study, label.defined_on, (label,), shift=4)
    assert "no person changed" in refusal(convert)
    corrected = study.mask(FLAIR_HYPERINTENSITY, Role.T1CE)
    earlier = {"ContentDate": "20240101", "ContentTime": "120000"}
    later = {"ContentDate": "20240102", "ContentTime": "080000.5"}
    write_highdicom_seg(study, Role.T1CE, {"FLAIR hyperintensity": np.roll(corrected, 6, axis=1)}, **earlier)
    write_highdicom_seg(study, Role.T1CE, {"FLAIR hyperintensity": corrected}, **later)
    dataset, skipped = convert()
    assert skipped == ()
    (case,) = dataset.cases
    annotators = dict(case.entry.annotators)
    assert annotators == {
        ENHANCING_TUMOUR.name: Annotator.NODE,
        ADC_ABNORMALITY.name: Annotator.NODE,
        FLAIR_HYPERINTENSITY.name: Annotator.PERSON,
    }
    wanted = expected(study, FLAIR_HYPERINTENSITY, case, Role.T1CE)
    (found,) = case.masks((FLAIR_HYPERINTENSITY.name,))
    assert dice(found, wanted) > 0.985


def test_what_is_drawn_on_a_series_that_is_no_channel_is_taken_where_the_scanner_has_it(
    study: DrawnStudy, convert: Convert
) -> None:
    wanted = (ENHANCING_TUMOUR.name, FLAIR_HYPERINTENSITY.name)
    settings = replace(SETTINGS, channels=(Role.FLAIR, Role.T1CE), labels=wanted)
    for label in (ENHANCING_TUMOUR, FLAIR_HYPERINTENSITY):
        write_highdicom_seg(study, Role.ADC, {label.title: study.mask(label, Role.ADC)})
    dataset, skipped = convert(settings)
    assert skipped == ()
    (case,) = dataset.cases
    for name, mask in zip(wanted, case.masks(wanted), strict=True):
        label = next(each for each in LABELS if each.name == name)
        assert dice(mask, expected(study, label, case, Role.ADC)) > 0.985


def test_segments_of_one_object_may_overlap_and_carry_a_sites_own_names(study: DrawnStudy, convert: Convert) -> None:
    masks = {"Oedema": study.mask(FLAIR_HYPERINTENSITY, Role.T1CE), "Kontrast": study.mask(ENHANCING_TUMOUR)}
    write_slicer_segmentation(study, Role.T1CE, masks)
    assert "--map" in refusal(convert)
    names = LabelNames({"oedema": FLAIR_HYPERINTENSITY.name, "kontrast": ENHANCING_TUMOUR.name})
    assert "mentions adc_abnormality" in refusal(convert, replace(SETTINGS, names=names))
    dataset, _ = convert(replace(SETTINGS, names=names, missing_is_empty=True))
    (case,) = dataset.cases
    enhancing, adc, flair = case.masks(NAMES)
    assert dict(case.entry.annotators)[ADC_ABNORMALITY.name] is Annotator.NOBODY
    assert not adc.any()
    assert (enhancing & flair).sum() > 0.9 * enhancing.sum() > 0


def test_bit_masks_are_read_as_such_when_told(study: DrawnStudy, convert: Convert) -> None:
    for role in GEOMETRIES:
        bits = sum(mask.astype(np.uint8) << place for place, mask in enumerate(study.truth[role]))
        image = itk_image(np.asarray(bits, np.uint8), GEOMETRIES[role])
        sitk.WriteImage(image, str(study.folder / f"truth_{role.lower()}.nii.gz"))
    assert "--values bits" in refusal(convert)
    dataset, _ = convert(replace(SETTINGS, values=Values.BITS))
    (case,) = dataset.cases
    for label, mask in zip(LABELS, case.masks(NAMES), strict=True):
        assert dice(mask, expected(study, label, case)) > 0.985


def test_what_cannot_be_used_is_named(study: DrawnStudy, convert: Convert, tmp_path: Path) -> None:
    assert "Nothing is drawn on it" in refusal(convert)
    draw_all("nifti", study, lambda name: name, tmp_path)
    kept = study.folder / "reader1_map3.nii.gz"
    whole = kept.read_bytes()
    # Another study's: its voxels lie half between those of this one.
    image = sitk.ReadImage(str(kept))
    image.SetOrigin([value + 1.2 for value in image.GetOrigin()])
    sitk.WriteImage(image, str(kept))
    assert "does not stand on the voxels of a series of this study" in refusal(convert)
    dataset, _ = convert(replace(SETTINGS, off_grid=True))
    (case,) = dataset.cases
    (found,) = case.masks((FLAIR_HYPERINTENSITY.name,))
    assert 0.6 < dice(found, expected(study, FLAIR_HYPERINTENSITY, case)) < 0.985
    kept.write_bytes(whole[: len(whole) // 2])
    assert "reader1_map3.nii.gz is no NIfTI file" in refusal(convert)
    kept.write_bytes(whole)
    (study.folder / "reader2_map3.nii.gz").write_bytes(whole)
    reason = refusal(convert)
    assert "drawn both in reader1_map3.nii.gz and in reader2_map3.nii.gz" in reason
    (study.folder / "reader2_map3.nii.gz").unlink()
    for path in study.files(Role.ADC):
        path.unlink()
    assert "no ADC map" in refusal(convert)


def test_files_belong_to_the_study_beside_them(
    lasting: DrawnStudy, head: SyntheticHead, convert: Convert, tmp_path: Path
) -> None:
    in_folder(lasting, tmp_path / "in" / "a" / "one")
    two = renamed(lasting, tmp_path / "in" / "b" / "two" / "dicom", "2.25.2")
    beside = replace(two, folder=tmp_path / "in" / "b" / "two")
    draw_all("nifti", beside, lambda name: name, tmp_path)
    (tmp_path / "in" / "whose.nii.gz").write_bytes((beside.folder / "reader1_map3.nii.gz").read_bytes())
    dataset, skipped = convert(replace(SETTINGS, spacing_mm=4.0))
    assert len(dataset.cases) == 1
    reasons = {each.where: each.reason for each in skipped}
    assert "as near to 2 studies" in reasons["whose.nii.gz"]
    assert "Nothing is drawn on it" in reasons[f"Study {lasting.study}"]
    assert dataset.cases[0].patient == Pseudonyms(b"k" * 32)("patient", f"dicom {SECRET}-1")


def test_a_patient_is_one_with_and_without_an_issuer_of_the_id(
    lasting: DrawnStudy, convert: Convert, tmp_path: Path
) -> None:
    study = replace(renamed(lasting, tmp_path / "in" / "dicom", "2.25.2"), folder=tmp_path / "in")
    draw_all("nifti", study, lambda name: name, tmp_path)
    settings = replace(SETTINGS, spacing_mm=4.0)
    (before,) = convert(settings)[0].cases
    for path in (tmp_path / "in" / "dicom").rglob("*.dcm"):
        instance = dcmread(path)
        instance.IssuerOfPatientID = "HOSPITAL"
        instance.save_as(path)
    (after,) = convert(settings)[0].cases
    assert after.patient == before.patient
