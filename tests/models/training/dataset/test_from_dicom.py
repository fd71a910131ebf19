"""Annotations in every file format become the same voxels at the same place."""

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
from pydicom.uid import RTStructureSetStorage

from dicom_seg.seg import encode_seg
from dicom_seg.source_headers import read_headers
from dicom_seg.write import write_dicom
from models.labels import (
    ADC_ABNORMALITY,
    ENHANCING_TUMOUR,
    FLAIR_HYPERINTENSITY,
    PAPER_LABELS,
    TUMOUR_CORE,
    WHOLE_TUMOUR,
    Label,
    Role,
)
from models.package import IntendedUse
from models.training.dataset.annotation import Annotation, LabelNames
from models.training.dataset.annotation_evidence import check_not_lost
from models.training.dataset.dataset import Case, Dataset, read_dataset
from models.training.dataset.file_annotations import LabelMapValues
from models.training.dataset.from_dicom import CHANNELS, DicomSettings, convert_dicom
from models.training.dataset.manifest import Annotator, DatasetBroken, DatasetSource
from models.training.dataset.pseudonyms import Pseudonyms
from models.training.dataset.required import parse_required
from models.training.dataset.splits import Shares
from models.training.dataset.study_patient import study_patient
from models.training.dataset.writer import CaseRefused, DatasetWriter, SkippedStudy
from models.training.synthetic.head import SyntheticHead, synthesise
from models.training.synthetic.tumour import Variant
from pipeline.align_settings import AlignSettings
from pipeline.choose import Selected, choose
from pipeline.errors import GlionodeError, ModelUnusable
from pipeline.measure import dice
from pipeline.read import read_volume
from pipeline.result import MasksOnSeries, ModelIdentity, SegmentationResult, SourceSeries
from pipeline.rules import load_rules
from pipeline.scan import scan
from tests.support.annotated_study import (
    GEOMETRIES,
    SECRET,
    WrittenStudy,
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

NAMES = tuple(label.name for label in PAPER_LABELS)
RULES = load_rules(None)
SETTINGS = DicomSettings(rules=RULES, spacing_mm=2.5, align=AlignSettings(enabled=False))
"""Without registration, so that the expected result follows from the scanner coordinates."""
MOTION = moved(9.0, (10.0, -8.0, 6.0))
"""Motion of the patient before the ADC map."""
COARSE = AlignSettings(resolution_mm=6)
"""Settings of a quick registration."""
Convert = Callable[..., tuple[Dataset, tuple[SkippedStudy, ...]]]


@pytest.fixture(scope="module")
def head() -> SyntheticHead:
    return synthesise(5, Variant.UNIFOCAL, 3.0)


@pytest.fixture(scope="module")
def written_study(head: SyntheticHead, tmp_path_factory: pytest.TempPathFactory) -> WrittenStudy:
    return write_study(tmp_path_factory.mktemp("studies") / "dicom", head, {Role.ADC: MOTION})


@pytest.fixture(scope="module")
def registered(written_study: WrittenStudy, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A case that was aligned by registration."""
    folder = tmp_path_factory.mktemp("registered")
    study = in_folder(written_study, folder / "in" / "one")
    for label in PAPER_LABELS:
        write_nifti_maps(study, label)
    settings = replace(SETTINGS, spacing_mm=3.0, align=COARSE)
    writer = DatasetWriter(folder / "out", DatasetSource.DICOM, settings.channels, NAMES, Pseudonyms(b"k" * 32))
    assert convert_dicom(folder / "in", scan([folder / "in"]), writer, settings, lambda *_: None) == ()
    writer.finish(Shares(), seed=1)
    return read_dataset(folder / "out").cases[0]


@pytest.fixture
def study(written_study: WrittenStudy, tmp_path: Path) -> WrittenStudy:
    return in_folder(written_study, tmp_path / "in" / "one")


@pytest.fixture
def convert(tmp_path: Path) -> Convert:
    runs = iter(range(100))

    def run(settings: DicomSettings = SETTINGS) -> tuple[Dataset, tuple[SkippedStudy, ...]]:
        out = tmp_path / f"out{next(runs)}"
        writer = DatasetWriter(out, DatasetSource.DICOM, settings.channels, settings.labels, Pseudonyms(b"k" * 32))
        run.remarks = writer.remarks
        skipped = run.skipped = convert_dicom(
            tmp_path / "in", scan([tmp_path / "in"]), writer, settings, lambda *_: None
        )
        writer.finish(Shares(), seed=1)
        return read_dataset(out), skipped

    return run


def refusal(convert: Convert, settings: DicomSettings = SETTINGS) -> str:
    """Return why the only study does not become a case."""
    with pytest.raises(DatasetBroken, match="No study became a case"):
        convert(settings)
    (skipped,) = convert.skipped  # type: ignore[attr-defined]
    return str(skipped.reason)


def expected(study: WrittenStudy, label: Label, case: Case, on: Role | None = None) -> np.ndarray:
    """Resample the annotation of a series to the grid of the case with ITK: voxels at least half inside."""
    role = on or label.defined_on
    image = itk_image(study.mask(label, role).astype(np.float32), GEOMETRIES[role])
    grid = itk_image(np.zeros(case.geometry.shape, np.float32), case.geometry)
    return sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, 0.0)) >= 0.5


def annotate_all(form: str, study: WrittenStudy, program: Callable[[str], str], work: Path) -> None:
    """Annotate each label on the series that defines it, in one file format."""
    for label in PAPER_LABELS:
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


def write_own_seg(study: WrittenStudy, role: Role, labels: tuple[Label, ...], shift: int = 0) -> Path:
    """Write a SEG as the node does."""
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
    # The node runs years after the study, later than any annotation of a person.
    seg = encode_seg(result, on, read_headers(result.source(role)), datetime(2031, 2, 3, tzinfo=UTC))
    path = study.folder / f"own_{role}_{shift}.dcm"
    write_dicom(seg, path)
    return path


@pytest.mark.parametrize("form", ["nifti", "nrrd", "slicer", "dcmqi", "binary", "fractional", "labelmap", "ours"])
def test_every_format_puts_every_label_at_its_place(
    form: str, study: WrittenStudy, convert: Convert, program: Callable[[str], str], tmp_path: Path
) -> None:
    annotate_all(form, study, program, tmp_path / "work")
    dataset, skipped = convert(replace(SETTINGS, accept_own=form == "ours"))
    assert skipped == ()
    (case,) = dataset.cases
    who = Annotator.NODE if form == "ours" else Annotator.PERSON
    assert case.entry.annotators == tuple((name, who) for name in NAMES)
    for label, mask in zip(PAPER_LABELS, case.masks(NAMES), strict=True):
        wanted = expected(study, label, case)
        assert mask.sum() > 200
        # Both interpolate; where ours smooths thin voxels first, a voxel of the surface may fall the other way.
        assert dice(mask, wanted) > 0.985, label
        for axis in range(3):
            assert dice(np.roll(mask, 1, axis), wanted) < 0.95, "the test would not see a shift"
            assert dice(np.flip(mask, axis), wanted) < 0.95, "the test would not see a flip"


def test_training_reads_what_the_network_of_the_node_sees(
    registered: Case, written_study: WrittenStudy, tmp_path: Path
) -> None:
    """The network of the node receives exactly the numbers that training reads."""
    assert torch.equal(registered.normalised(CHANNELS), served_input(written_study.folder, tmp_path / "segmented", 3.0))


def served_input(folder: Path, out: Path, spacing_mm: float) -> torch.Tensor:
    """Return the network's input when `process_study` segments the study in a folder."""
    from plugin.jobs.prior_results import PriorResults
    from plugin.settings.sections import Settings
    from plugin.worker.context import open_worker_context
    from plugin.worker.process_study import process_study
    from plugin.worker.stopwatch import Stopwatch

    context = replace(open_worker_context(Settings(), device="cpu"), align=COARSE)
    context.model.package = replace(context.model.package, channels=CHANNELS, spacing_mm=spacing_mm, window=None)
    seen: list[torch.Tensor] = []

    def network(channels: torch.Tensor) -> torch.Tensor:
        seen.append(channels[0].clone())
        raise ModelUnusable("recorded")

    context.model.on = lambda device: network  # type: ignore[method-assign,assignment]
    report = process_study(scan([folder]).studies[0], context, out, Stopwatch(), PriorResults(datetime.now(UTC)))
    assert report.reason == "recorded"
    (channels,) = seen
    return channels


def test_a_label_is_moved_with_its_series(registered: Case, written_study: WrittenStudy, head: SyntheticHead) -> None:
    """The patient moved before the ADC map; its annotation follows the registration to T1CE."""
    wanted = head.truth(registered.geometry)[PAPER_LABELS.index(ADC_ABNORMALITY)]
    (found,) = registered.masks((ADC_ABNORMALITY.name,))
    # Annotated on voxels of 4.5 mm, and registered to within a millimetre.
    assert dice(found, wanted) > 0.85
    assert dice(expected(written_study, ADC_ABNORMALITY, registered), wanted) < 0.7, (
        "it would pass without registration"
    )


def test_no_header_text_is_written(study: WrittenStudy, convert: Convert, tmp_path: Path) -> None:
    annotate_all("nifti", study, lambda name: name, tmp_path)
    dataset, _ = convert()
    texts = [SECRET.encode(), study.study.encode(), b"19600102", b"20240304", study.folder.name.encode() + b"/"]
    files = [path for path in dataset.folder.rglob("*") if path.is_file()]
    assert len(files) == 1 + 3 + 3
    for path in files:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert not [text for text in texts if text in content + str(path.relative_to(dataset.folder)).encode()], path


def test_a_persons_correction_takes_precedence_whatever_the_dates(study: WrittenStudy, convert: Convert) -> None:
    """The node segmented all series; a person changed one label on T1CE and accepted the others."""
    for label in PAPER_LABELS:
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


def test_an_annotated_series_that_is_no_channel_is_placed_by_scanner_coordinates(
    study: WrittenStudy, convert: Convert
) -> None:
    wanted = (ENHANCING_TUMOUR.name, FLAIR_HYPERINTENSITY.name)
    settings = replace(SETTINGS, channels=(Role.FLAIR, Role.T1CE), labels=wanted)
    for label in (ENHANCING_TUMOUR, FLAIR_HYPERINTENSITY):
        write_highdicom_seg(study, Role.ADC, {label.title: study.mask(label, Role.ADC)})
    dataset, skipped = convert(settings)
    assert skipped == ()
    (case,) = dataset.cases
    for name, mask in zip(wanted, case.masks(wanted), strict=True):
        label = next(each for each in PAPER_LABELS if each.name == name)
        assert dice(mask, expected(study, label, case, Role.ADC)) > 0.985


def test_segments_may_overlap_and_have_names_of_the_site(study: WrittenStudy, convert: Convert) -> None:
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


def test_bit_masks_are_read_with_values_bits(study: WrittenStudy, convert: Convert) -> None:
    for role in GEOMETRIES:
        bits = sum(mask.astype(np.uint8) << place for place, mask in enumerate(study.truth[role]))
        image = itk_image(np.asarray(bits, np.uint8), GEOMETRIES[role])
        sitk.WriteImage(image, str(study.folder / f"truth_{role.lower()}.nii.gz"))
    assert "--values bits" in refusal(convert)
    dataset, _ = convert(replace(SETTINGS, values=LabelMapValues.BITS))
    (case,) = dataset.cases
    for label, mask in zip(PAPER_LABELS, case.masks(NAMES), strict=True):
        assert dice(mask, expected(study, label, case)) > 0.985


def test_unusable_annotations_are_named(study: WrittenStudy, convert: Convert, tmp_path: Path) -> None:
    assert "It has no annotation" in refusal(convert)
    annotate_all("nifti", study, lambda name: name, tmp_path)
    kept = study.folder / "reader1_map3.nii.gz"
    whole = kept.read_bytes()
    # As of another study: its voxels are half-way between those of this one.
    image = sitk.ReadImage(str(kept))
    image.SetOrigin([value + 1.2 for value in image.GetOrigin()])
    sitk.WriteImage(image, str(kept))
    assert "matches the voxels of no series of this study" in refusal(convert)
    dataset, _ = convert(replace(SETTINGS, off_grid=True))
    (case,) = dataset.cases
    (found,) = case.masks((FLAIR_HYPERINTENSITY.name,))
    assert 0.6 < dice(found, expected(study, FLAIR_HYPERINTENSITY, case)) < 0.985
    kept.write_bytes(whole[: len(whole) // 2])
    assert "reader1_map3.nii.gz is not a readable NIfTI file" in refusal(convert)
    kept.write_bytes(whole)
    (study.folder / "reader2_map3.nii.gz").write_bytes(whole)
    reason = refusal(convert)
    assert "annotated both in reader1_map3.nii.gz and in reader2_map3.nii.gz" in reason
    (study.folder / "reader2_map3.nii.gz").unlink()
    for path in study.files(Role.ADC):
        path.unlink()
    assert "no ADC map" in refusal(convert)


def test_files_belong_to_the_study_beside_them(
    written_study: WrittenStudy, head: SyntheticHead, convert: Convert, tmp_path: Path
) -> None:
    in_folder(written_study, tmp_path / "in" / "a" / "one")
    two = renamed(written_study, tmp_path / "in" / "b" / "two" / "dicom", "2.25.2")
    beside = replace(two, folder=tmp_path / "in" / "b" / "two")
    annotate_all("nifti", beside, lambda name: name, tmp_path)
    (tmp_path / "in" / "whose.nii.gz").write_bytes((beside.folder / "reader1_map3.nii.gz").read_bytes())
    dataset, skipped = convert(replace(SETTINGS, spacing_mm=4.0))
    assert len(dataset.cases) == 1
    reasons = {each.where: each.reason for each in skipped}
    assert "equally near to 2 studies" in reasons["whose.nii.gz"]
    assert "It has no annotation" in reasons[f"Study {written_study.study}"]
    assert dataset.cases[0].patient == Pseudonyms(b"k" * 32)("patient", f"dicom {SECRET}-1")


def test_a_patient_is_one_with_and_without_an_issuer_of_the_id(
    written_study: WrittenStudy, convert: Convert, tmp_path: Path
) -> None:
    study = replace(renamed(written_study, tmp_path / "in" / "dicom", "2.25.2"), folder=tmp_path / "in")
    annotate_all("nifti", study, lambda name: name, tmp_path)
    settings = replace(SETTINGS, spacing_mm=4.0)
    (before,) = convert(settings)[0].cases
    for path in (tmp_path / "in" / "dicom").rglob("*.dcm"):
        instance = dcmread(path)
        instance.IssuerOfPatientID = "HOSPITAL"
        instance.save_as(path)
    (after,) = convert(settings)[0].cases
    assert after.patient == before.patient


def test_a_study_of_two_patients_becomes_no_case(written_study: WrittenStudy, convert: Convert, tmp_path: Path) -> None:
    study = replace(renamed(written_study, tmp_path / "in" / "dicom", "2.25.2"), folder=tmp_path / "in")
    annotate_all("nifti", study, lambda name: name, tmp_path)
    foreign = tmp_path / "in" / "dicom" / Role.ADC / "0000.dcm"
    instance = dcmread(foreign)
    instance.PatientID = "SOMEBODY-ELSE"
    instance.save_as(foreign)
    said = refusal(convert)
    assert "not all of one patient" in said
    assert "SOMEBODY" not in said


def test_the_patient_is_that_of_the_images_that_are_used(
    written_study: WrittenStudy, convert: Convert, tmp_path: Path
) -> None:
    study = replace(renamed(written_study, tmp_path / "in" / "dicom", "2.25.2"), folder=tmp_path / "in")
    annotate_all("nifti", study, lambda name: name, tmp_path)
    foreign = dcmread(tmp_path / "in" / "dicom" / Role.ADC / "0000.dcm")
    foreign.PatientID, foreign.SeriesInstanceUID, foreign.SOPInstanceUID = "SOMEBODY-ELSE", "2.25.3", "2.25.4"
    foreign.SeriesNumber, foreign.SeriesDescription = 0, "localizer"
    foreign.file_meta.MediaStorageSOPInstanceUID = foreign.SOPInstanceUID
    foreign.save_as(tmp_path / "in" / "dicom" / "first.dcm")
    path = tmp_path / "in" / "dicom" / Role.T1CE / "0000.dcm"
    unnamed = dcmread(path)
    unnamed.PatientID = ""
    unnamed.save_as(path)
    (case,) = convert(replace(SETTINGS, spacing_mm=4.0))[0].cases
    assert case.patient == Pseudonyms(b"k" * 32)("patient", f"dicom {SECRET}-1")


ALONE = (ENHANCING_TUMOUR.name,)
QUICK = replace(SETTINGS, spacing_mm=4.0, labels=ALONE)
"""One label on a coarse grid."""


def test_contours_that_are_not_read_are_told_and_never_empty(study: WrittenStudy, convert: Convert) -> None:
    contours = dcmread(study.files(Role.T1CE)[0])
    contours.SOPClassUID = contours.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    contours.Modality, contours.SeriesInstanceUID, contours.SOPInstanceUID = "RTSTRUCT", "2.25.77", "2.25.78"
    del contours.PixelData
    contours.save_as(study.folder / "contours.dcm")
    assert "its RTSTRUCT cannot be read (convert it to SEG)" in refusal(convert, QUICK)
    write_nifti_maps(study, FLAIR_HYPERINTENSITY)
    asked = replace(QUICK, labels=NAMES, missing_is_empty=True)
    assert "No annotation mentions enhancing_tumour, and its RTSTRUCT cannot be read" in refusal(convert, asked)


def test_a_study_becomes_a_case_with_what_it_has_and_what_was_drawn(study: WrittenStudy, convert: Convert) -> None:
    """Nobody can have looked for an ADC abnormality without ADC: it is not taken for empty, whoever asks for that."""
    write_nifti_maps(study, FLAIR_HYPERINTENSITY)
    for path in study.files(Role.ADC):
        path.unlink()
    settings = replace(QUICK, labels=NAMES)
    assert "no ADC map" in refusal(convert, settings)
    dataset, skipped = convert(replace(settings, required=parse_required("any")))
    assert skipped == ()
    (case,) = dataset.cases
    assert (case.channels, case.labels) == ((Role.FLAIR, Role.T1CE), (FLAIR_HYPERINTENSITY.name,))
    assert dice(case.masks(case.labels)[0], expected(study, FLAIR_HYPERINTENSITY, case)) > 0.97
    assert [remark for _, remark in convert.remarks if "has no" in remark] == [  # type: ignore[attr-defined]
        "It has no ADC and no enhancing_tumour and no adc_abnormality."
    ]
    empty = replace(settings, required=parse_required("T1CE"), missing_is_empty=True)
    (case,) = convert(empty)[0].cases
    assert case.annotators == {
        ENHANCING_TUMOUR.name: Annotator.NOBODY,
        FLAIR_HYPERINTENSITY.name: Annotator.PERSON,
    }
    assert "No annotation mentions adc_abnormality" in refusal(
        convert, replace(empty, required=parse_required("adc_abnormality"))
    )
    for path in study.files(Role.T1CE):
        path.unlink()
    assert "no T1 after contrast" in refusal(convert, empty)
    (case,) = convert(replace(settings, required=parse_required("any")))[0].cases
    assert (case.channels, case.reference) == ((Role.FLAIR,), Role.FLAIR)
    assert dice(case.masks(case.labels)[0], expected(study, FLAIR_HYPERINTENSITY, case)) > 0.97
    with pytest.raises(ValueError, match="T2 is required, and is not among"):
        replace(settings, required=parse_required("T2"))
    adc_only = replace(settings, required=parse_required("any"), labels=(ADC_ABNORMALITY.name,))
    assert "No annotation mentions any of adc_abnormality" in refusal(convert, adc_only)


def test_labels_beyond_the_papers_are_read_and_a_programs_are_told(study: WrittenStudy, convert: Convert) -> None:
    """An AUTOMATIC segment of another manufacturer is a program's; what a person drew goes before it."""
    wanted = (TUMOUR_CORE.name, WHOLE_TUMOUR.name)
    masks = {"Tumor Core": study.mask(ENHANCING_TUMOUR), "whole tumour": study.mask(FLAIR_HYPERINTENSITY, Role.T1CE)}
    path = write_highdicom_seg(study, Role.T1CE, masks)
    automatic = dcmread(path)
    for segment in automatic.SegmentSequence:
        segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "AUTOMATIC", "a program"
    automatic.save_as(path)
    settings = replace(QUICK, labels=wanted)
    (case,) = convert(settings)[0].cases
    assert case.annotators == dict.fromkeys(wanted, Annotator.PROGRAM)
    assert dice(case.masks(wanted)[1], expected(study, FLAIR_HYPERINTENSITY, case, Role.T1CE)) > 0.97
    write_highdicom_seg(study, Role.T1CE, {"Tumor Core": study.mask(ADC_ABNORMALITY, Role.T1CE)})
    (case,) = convert(settings)[0].cases
    assert case.annotators == {TUMOUR_CORE.name: Annotator.PERSON, WHOLE_TUMOUR.name: Annotator.PROGRAM}
    assert dice(case.masks(wanted)[0], expected(study, ADC_ABNORMALITY, case, Role.T1CE)) > 0.97


def test_a_seg_of_another_patient_or_examination_is_not_used(study: WrittenStudy, convert: Convert) -> None:
    """Its grid equals that of this study, as grids of one protocol may."""
    masks = {ENHANCING_TUMOUR.title: study.mask(ENHANCING_TUMOUR)}
    seg = write_highdicom_seg(study, Role.T1CE, masks, PatientID=f"{SECRET}-other")
    with pytest.raises(DatasetBroken, match="No study became a case"):
        convert(QUICK)
    reasons = {each.where: each.reason for each in convert.skipped}  # type: ignore[attr-defined]
    assert "carries another patient ID than the images" in reasons[f"SEG {dcmread(seg).SOPInstanceUID}"]
    assert SECRET not in str(reasons)
    changed = dcmread(seg)
    changed.PatientID = f"{SECRET}-1"
    changed.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.99"
    changed.save_as(seg)
    # The series that it names is not here, but it is of this frame of reference: an export without that series.
    assert convert(QUICK)[1] == ()
    changed.FrameOfReferenceUID = "2.25.98"
    changed.save_as(seg)
    assert "matches the voxels of no series of this study" in refusal(convert, QUICK)


def test_a_mask_that_vanishes_on_the_grid_is_no_empty_label(study: WrittenStudy, convert: Convert) -> None:
    mask = np.zeros(GEOMETRIES[Role.T1CE].shape, np.uint8)
    mask[0, 0, 0] = 1  # in the air
    path = study.folder / "et.nii.gz"
    sitk.WriteImage(itk_image(mask, GEOMETRIES[Role.T1CE]), str(path))
    assert "0 ml are left on the grid of the data set" in refusal(convert, QUICK)
    annotation = Annotation(ENHANCING_TUMOUR.name, (), Annotator.PERSON, "", "", "a mask")
    with pytest.raises(CaseRefused, match="Of 10 ml of enhancing_tumour in a mask 4 ml are left"):
        check_not_lost(annotation, 10, 4)
    for drawn_ml, kept_ml in ((0, 0), (0.3, 0.1), (10, 6)):  # empty; a speck that voxels round off; cut at the edge
        check_not_lost(annotation, drawn_ml, kept_ml)


def test_numbers_of_brats_are_not_taken_for_ours(study: WrittenStudy, convert: Convert) -> None:
    """1 is necrosis there and enhancing tumour here, 3 is enhancing tumour there."""
    enhancing, adc, flair = study.truth[Role.T1CE]
    behind = np.arange(len(adc))[:, None, None] > np.median(np.argwhere(adc)[:, 0])
    ours = np.select([enhancing, adc & behind, flair], [1, 2, 3], 0).astype(np.uint8)
    path = study.folder / "segmentation.nii.gz"
    sitk.WriteImage(itk_image(ours, GEOMETRIES[Role.T1CE]), str(path))
    settings = replace(QUICK, labels=NAMES)
    (case,) = convert(settings)[0].cases
    (wanted,) = case.masks(ALONE)
    theirs = np.array([0, 3, 1, 2], np.uint8)[ours]
    sitk.WriteImage(itk_image(theirs, GEOMETRIES[Role.T1CE]), str(path))
    reason = refusal(convert, settings)
    assert "has a label that is brighter on T1CE than its 1" in reason
    assert "--map NUMBER=LABEL" in reason
    names = LabelNames({"3": ENHANCING_TUMOUR.name, "1": ADC_ABNORMALITY.name, "2": FLAIR_HYPERINTENSITY.name})
    (case,) = convert(replace(settings, names=names))[0].cases
    assert np.array_equal(case.masks(ALONE)[0], wanted)


def test_a_series_that_shows_half_the_head_makes_no_case(study: WrittenStudy, convert: Convert) -> None:
    write_nifti_maps(study, ENHANCING_TUMOUR)
    for path in study.files(Role.FLAIR)[14:]:
        path.unlink()
    assert "of the head that the chosen series show together" in refusal(convert, QUICK)


def test_one_patient_in_other_words_stays_in_one_split(
    written_study: WrittenStudy, convert: Convert, tmp_path: Path
) -> None:
    study = replace(renamed(written_study, tmp_path / "in" / "dicom", "2.25.2"), folder=tmp_path / "in")
    write_nifti_maps(study, ENHANCING_TUMOUR)

    def persons(**attributes: str) -> tuple[str, ...]:
        for path in (tmp_path / "in" / "dicom").rglob("*.dcm"):
            instance = dcmread(path)
            for name, value in attributes.items():
                setattr(instance, name, value)
            instance.save_as(path)
        (found,) = scan([tmp_path / "in"]).studies
        return study_patient(found, found.series).persons

    assert persons(PatientID="0042 ") == persons(PatientID="42")
    # Anonymisers give all patients one name and one birth date, so these count only without an ID.
    assert not set(persons(PatientID="42")) & set(persons(PatientID="77"))
    assert persons(PatientID="", PatientName="DOE^JANE") == persons(PatientName="Doe^Jane") != ()
    convert(QUICK)
    assert not any("name no patient" in remark for _, remark in convert.remarks)  # type: ignore[attr-defined]
    assert persons(PatientID="", PatientName="", PatientBirthDate="") == ()
    convert(QUICK)
    assert any("name no patient" in remark for _, remark in convert.remarks)  # type: ignore[attr-defined]


def test_whatever_a_step_refuses_ends_no_other_study(
    study: WrittenStudy, convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_nifti_maps(study, ENHANCING_TUMOUR)

    def refuse(*_: object) -> None:
        raise GlionodeError("The series lie nowhere.")

    monkeypatch.setattr("models.training.dataset.from_dicom.align", refuse)
    assert refusal(convert, QUICK) == "The series lie nowhere."
