"""Test `glionode segment` and `explain` on a whole study, and their errors for bad input."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import UID
from scipy.spatial.transform import Rotation

from models.inference import has_bfloat16
from models.labels import PAPER_LABELS
from pipeline.measure import dice
from tests.support.command_line import CommandResult, Demonstration, glionode
from tests.support.programs import GLIONODE
from tests.support.small_study import write_small_study

JPIP_REFERENCED = "1.2.840.10008.1.2.4.94"  # the pixels are on a server: no decoder reads these


@pytest.fixture(scope="session")
def segmented(demonstration: Demonstration, tmp_path_factory: pytest.TempPathFactory) -> tuple[CommandResult, Path]:
    """The phantom study segmented from the command line."""
    out = tmp_path_factory.mktemp("segmented") / "out"
    return glionode("segment", demonstration.study, out), out


def assert_failed(finished: CommandResult, status: int, *words: str) -> None:
    """Assert the exit status of a command and words of its error message."""
    assert finished.status == status, finished.err
    assert "Traceback" not in finished.err
    for word in words:
        assert word in finished.err, finished.err


def read_report(out: Path) -> dict[str, object]:
    return dict(json.loads((out / "report.json").read_text()))


def file_names(out: Path) -> list[str]:
    """Return the names in a folder; empty if there is no such folder."""
    return sorted(path.name for path in out.iterdir()) if out.exists() else []


def test_the_report_has_its_documented_fields(
    segmented: tuple[CommandResult, Path], demonstration: Demonstration
) -> None:
    finished, out = segmented
    assert finished.status == 0, finished.err
    report = json.loads((out / "report.json").read_text())
    truth = json.loads((demonstration.out / "phantom" / "truth.json").read_text())
    assert report["study_instance_uid"] == truth["study_uid"]
    assert (report["status"], report["reason"]) == ("segmented", None)
    assert report["device"] == ("cpu, bfloat16" if has_bfloat16(torch.device("cpu")) else "cpu")
    assert report["model"]["name"] == "phantom-demo"
    assert report["model"]["intended_use"] == "demonstration"
    assert {role: entry["series_description"] for role, entry in report["roles"].items()} == truth["wanted"]
    assert all(entry["why"] for entry in report["roles"].values())
    assert set(report["alignment"]) == {"FLAIR", "ADC"}
    assert all(
        len(entry["rotation_deg"]) == len(entry["translation_mm"]) == 3 for entry in report["alignment"].values()
    )
    assert list(report["labels"]) == [label.name for label in PAPER_LABELS]
    steps = [
        "choose",
        "read",
        "align",
        "normalise",
        "segment",
        "refine",
        "restore",
        "measure",
        "picture",
        "encode",
        "total",
    ]
    assert list(report["timings_s"]) == steps
    assert {entry["path"] for entry in report["outputs"]} | {"report.json"} == set(file_names(out))
    for entry in report["outputs"]:
        written = dcmread(out / entry["path"])
        assert written.SOPClassUID == entry["sop_class_uid"]
        assert written.SeriesDescription == entry["series_description"]
        assert written.SeriesDescription.startswith("Demonstration only")


def test_the_reported_matrix_takes_points_of_t1ce_to_the_series(
    segmented: tuple[CommandResult, Path], demonstration: Demonstration
) -> None:
    report = json.loads((segmented[1] / "report.json").read_text())
    truth = json.loads((demonstration.out / "phantom" / "truth.json").read_text())
    points = 60.0 * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])  # on the head's surface
    kept = [role for role, entry in report["alignment"].items() if entry["kept"]]
    assert kept
    for role in kept:
        motion = np.array(truth[f"motion_{role.lower()}"])
        moved = Rotation.from_euler("xyz", motion[:3]).apply(points) + motion[3:]
        assert np.linalg.norm(moved - points, axis=1).mean() > 1.5  # the inverse would be wrong by twice this
        matrix = np.array(report["alignment"][role]["matrix"])
        found = points @ matrix[:3, :3].T + matrix[:3, 3]
        assert np.linalg.norm(found - moved, axis=1).mean() < 1.0


def test_dcmqi_reads_the_seg_on_the_t1ce_grid(
    segmented: tuple[CommandResult, Path], demonstration: Demonstration, program: Callable[[str], str], tmp_path: Path
) -> None:
    _, out = segmented
    subprocess.run(
        [
            *(program("segimage2itkimage"), "--inputDICOM", str(out / "seg-t1ce.dcm")),
            *("--outputDirectory", str(tmp_path), "--outputType", "nii", "--prefix", "label"),
        ],
        check=True,
        capture_output=True,
    )
    truth = sitk.ReadImage(str(demonstration.out / "phantom" / "truth_t1ce.nii.gz"))
    bits = sitk.GetArrayFromImage(truth)
    report = json.loads((out / "report.json").read_text())
    for label in PAPER_LABELS:
        cropped = sitk.ReadImage(str(tmp_path / f"label-{label.number}.nii.gz"))
        index = np.array(truth.TransformPhysicalPointToContinuousIndex(cropped.GetOrigin()))
        np.testing.assert_allclose(index, np.round(index), atol=0.02)  # its voxels lie on the T1CE grid
        on_grid = sitk.GetArrayFromImage(sitk.Resample(cropped, truth, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0
        volume_ml = on_grid.sum() * np.prod(truth.GetSpacing()) / 1000
        assert volume_ml == pytest.approx(report["labels"][label.name]["volume_ml"], abs=0.002)
        # A shifted or flipped mask gives far less; the model card has the model's own numbers.
        least = 0.75 if label.name == "enhancing_tumour" else 0.8
        assert dice(on_grid, (bits >> (label.number - 1)) & 1 == 1) > least


def test_command_line_and_node_give_the_same_voxels_and_uids_of_their_own(
    segmented: tuple[CommandResult, Path], demonstration: Demonstration
) -> None:
    """They are two analyses; a UID stands for one content, and the start of the analysis is in it."""

    def read(folder: Path) -> dict[tuple[str, int], Dataset]:
        found = [dcmread(path) for path in folder.glob("*.dcm")]
        return {(each.SeriesDescription, int(each.InstanceNumber)): each for each in found}

    ours, theirs = read(segmented[1]), read(demonstration.out / "pacs")
    assert len(ours) == len(list(segmented[1].glob("*.dcm")))
    assert ours.keys() == theirs.keys()
    for name, one in ours.items():
        if "PixelData" in one:
            assert one.PixelData == theirs[name].PixelData
    uids = [{each.SOPInstanceUID for each in objects.values()} for objects in (ours, theirs)]
    assert uids[0].isdisjoint(uids[1])


def test_dciodvfy_finds_no_error(
    segmented: tuple[CommandResult, Path], demonstration: Demonstration, program: Callable[[str], str]
) -> None:
    _, out = segmented
    images = [next(folder.iterdir()) for folder in sorted(demonstration.study.iterdir())]
    for path in [*out.glob("*.dcm"), *images]:
        output = subprocess.run([program("dciodvfy"), "-new", path], capture_output=True, text=True, check=False).stderr
        assert [line for line in output.splitlines() if line.startswith("Error")] == [], path


def test_explain_agrees_with_the_truth(demonstration: Demonstration) -> None:
    finished = glionode("explain", demonstration.study, "--json")
    assert finished.status == 0, finished.err
    (study,) = json.loads(finished.out)
    taken = {series["taken_for"]: series["series_description"] for series in study["series"] if series["taken_for"]}
    wanted = json.loads((demonstration.out / "phantom" / "truth.json").read_text())["wanted"]
    assert {role: taken[role] for role in wanted} == wanted
    assert all(series["taken_for"] or series["ruled_out"] for series in study["series"])


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert_failed(glionode("segment", tmp_path / "in", tmp_path / "out"), 1, str(tmp_path / "in"), "no DICOM study")
    assert file_names(tmp_path / "out") == []


def test_a_folder_of_text_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    assert_failed(glionode("segment", tmp_path / "in", tmp_path / "out"), 1, "no DICOM study (1 other file")
    assert file_names(tmp_path / "out") == []


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    assert_failed(glionode("segment", tmp_path / "nowhere", tmp_path / "out"), 64, "does not exist")


def test_an_unknown_device_is_an_error(study: Path, tmp_path: Path) -> None:
    assert_failed(glionode("segment", study, tmp_path / "out", "--device", "tpu"), 64, "auto, cuda or cpu")


def test_an_unknown_model_is_an_error(study: Path, tmp_path: Path) -> None:
    finished = glionode("segment", study, tmp_path / "out", "--model", "nobody")
    assert_failed(finished, 1, "no model package called 'nobody'", "models list")


def test_a_study_without_adc_is_not_eligible(study: Path, tmp_path: Path) -> None:
    shutil.rmtree(study / "06_adc")
    shutil.rmtree(study / "05_trace")  # an ADC map could be computed from its b = 0 and b = 1000 images
    finished = glionode("segment", study, tmp_path / "out")
    assert_failed(finished, 2, "not eligible", "ADC")
    report = read_report(tmp_path / "out")
    assert report["status"] == "not_eligible"
    assert "ADC" in str(report["reason"])
    assert file_names(tmp_path / "out") == ["report.json"]


def test_a_truncated_file_fails_with_its_series(study: Path, tmp_path: Path) -> None:
    truncated = sorted((study / "06_adc").iterdir())[7]
    truncated.write_bytes(truncated.read_bytes()[: truncated.stat().st_size // 2])
    finished = glionode("segment", study, tmp_path / "out")
    series_uid = str(dcmread(sorted((study / "06_adc").iterdir())[0]).SeriesInstanceUID)
    assert_failed(finished, 1, series_uid)
    assert read_report(tmp_path / "out")["status"] == "failed"
    assert file_names(tmp_path / "out") == ["report.json"]


def test_a_missing_slice_fails_with_its_series(study: Path, tmp_path: Path) -> None:
    files = sorted((study / "04_flair").iterdir(), key=lambda path: dcmread(path).ImagePositionPatient[2])
    files[len(files) // 2].unlink()
    finished = glionode("segment", study, tmp_path / "out")
    assert_failed(finished, 1, str(dcmread(files[0]).SeriesInstanceUID))
    assert file_names(tmp_path / "out") == ["report.json"]


def test_an_unreadable_transfer_syntax_fails_with_its_series(study: Path, tmp_path: Path) -> None:
    for path in (study / "06_adc").iterdir():
        image = dcmread(path)
        image.PixelData = encapsulate([b"\x00\x01" * 8])
        image["PixelData"].VR = "OB"
        image.file_meta.TransferSyntaxUID = UID(JPIP_REFERENCED)
        dcmwrite(path, image, little_endian=True, implicit_vr=False)
    finished = glionode("segment", study, tmp_path / "out")
    assert_failed(finished, 1, str(image.SeriesInstanceUID), "JPIP Referenced", "Send it as Explicit VR Little Endian")
    assert file_names(tmp_path / "out") == ["report.json"]


def test_two_studies_in_one_folder_get_folders_of_their_own(tmp_path: Path) -> None:
    write_small_study("1.2.3.7", tmp_path / "in")
    for path in write_small_study("1.2.3.4", tmp_path / "other"):
        image = dcmread(path)
        if image.SeriesNumber == 2:  # only the FLAIR of the second study
            image.save_as(tmp_path / "in" / f"other-{image.InstanceNumber}.dcm")
    finished = glionode("segment", tmp_path / "in", tmp_path / "out")
    assert_failed(finished, 2, "Study 1.2.3.4: not eligible")
    assert file_names(tmp_path / "out") == ["1.2.3.4", "1.2.3.7"]
    assert read_report(tmp_path / "out" / "1.2.3.7")["status"] == "segmented"
    assert file_names(tmp_path / "out" / "1.2.3.4") == ["report.json"]


def test_a_full_disk_is_an_error_and_leaves_no_partial_file(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_small_study("1.2.3.4", study)
    out = tmp_path / "small"
    out.mkdir()
    script = """
        mount -t tmpfs -o size=64k none "$1" || exit 99
        "$2" -c "$3" segment "$4" "$1"
        status=$?
        ls -A "$1"
        exit $status
    """
    isolated = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    command = [*isolated, "sh", "-c", script, "sh", str(out), GLIONODE[0], GLIONODE[2], str(study)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 99 or "unshare failed" in result.stderr:
        pytest.skip("no small file system may be mounted here")
    assert_failed(
        CommandResult(result.returncode, result.stdout, result.stderr), 1, str(out), "No space left", "Free some space"
    )
    assert result.stdout.split() in ([], ["report.json"])  # no partial file; a small report may still fit
