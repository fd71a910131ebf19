"""Each case is measured once, whatever ended an earlier run, with any number of processes, and whatever fails."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from models.labels import PAPER_LABELS, Role
from models.package import ModelPackage, read_package
from models.training.evaluation import measure_case
from models.training.evaluation.case_score import CaseScore
from models.training.evaluation.cases import EvaluationCase, HeadCase, SyntheticSelection, Unmeasured
from models.training.evaluation.figures import Rank, representatives
from models.training.evaluation.measure_case import MeasuredCase, MeasureSettings
from models.training.evaluation.measure_cases import Measurement, measure_cases, refuse_other_labels
from models.training.evaluation.predict import segment_volumes
from models.training.evaluation.score import score_label
from models.training.synthetic.families import Family
from models.training.synthetic.head import SyntheticHead, synthesise
from models.training.synthetic.tumour import Variant
from models.weights import load_network
from pipeline.align_settings import AlignSettings
from pipeline.restore import restore
from pipeline.volume import Geometry, Volume

UNMOVED = AlignSettings(enabled=False)
CASES = SyntheticSelection((Family.PAINTED,), heads=2, lesion_free=1).cases
NAMES = tuple(label.name for label in PAPER_LABELS)


@pytest.fixture
def coarse_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scan heads in voxels of 5 mm, a hundredth of the work, in this process."""

    def scan(head: SyntheticHead, roles: tuple[Role, ...]) -> dict[Role, Volume]:
        frame = head.geometry.frame_of_reference_uid
        geometry = Geometry.axial((33, 46, 40), (5.0, 5.0, 5.0), (0.0, -4.0, 5.0), frame)
        return {role: head.acquire(role, geometry, None, number) for number, role in enumerate(roles)}

    monkeypatch.setattr(measure_case, "scan_head", scan)


def failing_for(*seeds: int) -> Callable[..., SyntheticHead]:
    """Return a function that makes heads of all seeds but these."""

    def make(seed: int, variant: Variant, spacing_mm: float, family: Family) -> SyntheticHead:
        if seed in seeds:
            raise ZeroDivisionError
        return synthesise(seed, variant, spacing_mm, family)

    return make


def measure(
    cases: Sequence[EvaluationCase], settings: MeasureSettings, folder: Path, processes: int = 1
) -> tuple[Measurement, list[tuple[int, CaseScore | Unmeasured | None]]]:
    """Measure cases; also return what was reported meanwhile."""
    reported: list[tuple[int, CaseScore | Unmeasured | None]] = []
    measured = measure_cases(
        cases, settings, folder, processes, lambda *newest: reported.append(newest), representatives
    )
    return measured, reported


@pytest.mark.usefixtures("coarse_scans")
def test_what_failed_is_left_out_and_measured_by_the_next_start_alone(
    make_package: Callable[..., ModelPackage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = MeasureSettings(make_package().folder, 4.0, alignment=UNMOVED)
    monkeypatch.setattr(measure_case, "synthesise", failing_for(1_000_000))
    first, reported = measure(CASES, settings, tmp_path / "work")
    (unmeasured,) = first.unmeasured
    assert reported == list(enumerate((unmeasured, *first.cases), 1))
    assert tuple(score.case for score in first.cases) == CASES[1:]
    assert unmeasured.case == CASES[0]
    assert unmeasured.reason.startswith("ZeroDivisionError in test_measure_cases.py, line ")
    assert [(figure.rank, figure.score) for figure in first.figures] == [(Rank.BEST, first.cases[0])]

    monkeypatch.setattr(measure_case, "synthesise", failing_for(1_000_001, 1_500_000))
    second, reported = measure(CASES, settings, tmp_path / "work")
    assert reported == [(2, None), (3, second.cases[0])]
    assert second.unmeasured == ()
    assert tuple(score.case for score in second.cases) == CASES
    assert second.cases[1:] == first.cases
    assert {figure.rank for figure in second.figures} == {Rank.BEST, Rank.WORST}
    assert all(figure.overlay.png.startswith(b"\x89PNG") for figure in second.figures)
    assert all(len(figure.overlay.slices) == 3 for figure in second.figures)


@pytest.mark.usefixtures("coarse_scans")
def test_each_label_of_a_head_is_scored_on_the_t1ce_grid(make_package: Callable[..., ModelPackage]) -> None:
    package, case = make_package(), CASES[0]
    assert isinstance(case, HeadCase)
    measured = MeasureSettings(package.folder, 4.0, alignment=UNMOVED)()(case)
    assert isinstance(measured, MeasuredCase)
    head = synthesise(case.seed, case.variant, 4.0, case.family)
    volumes = measure_case.scan_head(head, package.channels)
    output = segment_volumes(volumes, package, load_network(package), UNMOVED, torch.device("cpu"))
    t1ce = volumes[Role.T1CE].geometry
    names = [label.name for label in package.labels]
    assert [score.label for score in measured.score.labels] == [label.name for label in PAPER_LABELS]
    for score, label, truth in zip(measured.score.labels, PAPER_LABELS, head.truth(t1ce), strict=True):
        channel = [names.index(label.name)]
        (found,) = restore(output.probabilities[channel], output.grid, t1ce, (package.labels[channel[0]].threshold,))
        assert score == score_label(label.name, truth, found, t1ce.spacing_mm)
    assert any(score.found_ml for score in measured.score.labels)  # fresh weights find something, somewhere


def test_another_model_or_setting_is_measured_anew(
    make_package: Callable[..., ModelPackage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_package()
    measured: list[EvaluationCase] = []

    def attempt(self: MeasureSettings, case: EvaluationCase, *_: object) -> Unmeasured:
        measured.append(case)
        return Unmeasured(case, "It is not tried.")

    monkeypatch.setattr(MeasureSettings, "_attempt", attempt)
    for other in (package, make_package(seed=1)):
        for spacing_mm in (4.0, 5.0):
            measure(CASES[:1], MeasureSettings(other.folder, spacing_mm), tmp_path / "work")
    assert len(measured) == 4
    assert len(list((tmp_path / "work").iterdir())) == 4


def test_a_process_of_its_own_finds_what_this_one_finds(
    marked_study: tuple[Path, object], make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    settings = MeasureSettings(make_package().folder, alignment=UNMOVED)
    cases = SyntheticSelection(heads=0, lesion_free=0, studies=(marked_study[0],)).cases
    (one, _), (two, _) = (measure(cases, settings, tmp_path / str(processes), processes) for processes in (1, 2))
    assert any(0 < score.dice < 1 for score in one.cases[0].labels)  # fresh weights find something, somewhere
    assert one == two


def test_a_model_of_other_labels_is_refused(
    make_package: Callable[..., ModelPackage], edit: Callable[[Path, str, str], None]
) -> None:
    folder = make_package().folder
    for name, other in zip(NAMES, ("ET", "TC", "WT"), strict=True):
        edit(folder, name, other)
    with pytest.raises(ValueError, match=r"finds ET, TC, WT, .*fine-tune it first"):
        refuse_other_labels(read_package(folder))


@pytest.mark.usefixtures("coarse_scans")
def test_a_label_that_heads_do_not_have_is_not_scored(
    make_package: Callable[..., ModelPackage], edit: Callable[[Path, str, str], None]
) -> None:
    package = make_package()
    settings = MeasureSettings(package.folder, 4.0, alignment=UNMOVED)
    whole = settings()(CASES[0])
    edit(package.folder, NAMES[1], "tumour_core")
    refuse_other_labels(read_package(package.folder))
    measured = settings()(CASES[0])
    assert isinstance(whole, MeasuredCase)
    assert isinstance(measured, MeasuredCase)
    assert measured.score.labels == (whole.score.labels[0], whole.score.labels[2])
    assert measured.overlay is not None
    assert len(measured.overlay.slices) == 2
