"""A run measures each case once, whatever ended the run before, however many processes, and whatever fails."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models.labels import Role
from models.package import ModelPackage, read_package
from models.training.evaluation import measure_case
from models.training.evaluation import segment_head as one_head
from models.training.evaluation.families import Place
from models.training.evaluation.measure_case import Measuring, Unmeasured
from models.training.evaluation.run import Run, Seen, evaluate
from models.training.evaluation.synthetic_cases import Head, Wanted
from models.training.synthetic.families import Family
from models.training.synthetic.head import SyntheticHead, synthesise
from models.training.synthetic.tumour import Variant
from pipeline.align import AlignSettings
from pipeline.volume import Geometry, Volume

UNMOVED = AlignSettings(enabled=False)
WANTED = Wanted((Family.PAINTED,), heads=2, lesion_free=1)


@pytest.fixture
def coarse_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans of 5 mm, a hundredth of the work; in this process."""

    def scan(head: SyntheticHead, roles: tuple[Role, ...]) -> dict[Role, Volume]:
        frame = head.geometry.frame_of_reference_uid
        geometry = Geometry.axial((33, 46, 40), (5.0, 5.0, 5.0), (0.0, -4.0, 5.0), frame)
        return {role: head.acquire(role, geometry, None, number) for number, role in enumerate(roles)}

    monkeypatch.setattr(one_head, "scan_head", scan)


def failing_for(*seeds: int) -> Callable[..., SyntheticHead]:
    """Makes heads of all seeds but these."""

    def make(seed: int, variant: Variant, spacing_mm: float, family: Family) -> SyntheticHead:
        if seed in seeds:
            raise ZeroDivisionError
        return synthesise(seed, variant, spacing_mm, family)

    return make


def seeds(seen: list[Seen | Unmeasured], kind: str) -> set[int]:
    """Of heads that were measured, known from before, or failed."""
    sorts = {"failed": lambda each: isinstance(each, Unmeasured), "known": lambda each: getattr(each, "known", False)}
    chosen = [
        each.case if isinstance(each, Unmeasured) else each.scored.case
        for each in seen
        if next((name for name, is_it in sorts.items() if is_it(each)), "measured") == kind
    ]
    return {case.seed for case in chosen if isinstance(case, Head)}


@pytest.mark.usefixtures("coarse_scans")
def test_what_failed_is_left_out_and_measured_by_the_next_start_alone(
    make_package: Callable[..., ModelPackage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_package()
    run = Run(WANTED, Measuring(package.folder, 4.0, alignment=UNMOVED), tmp_path / "work")
    monkeypatch.setattr(measure_case, "synthesise", failing_for(1_000_000))
    seen: list[Seen | Unmeasured] = []
    first, figures = evaluate(package, run, seen.append)
    assert (seeds(seen, "failed"), seeds(seen, "measured")) == ({1_000_000}, {1_000_001, 1_500_000})
    ((case, why),) = first.left_out
    assert case == WANTED.cases[0]
    assert why.startswith("ZeroDivisionError in test_run.py, line ")
    assert [(figure.place, figure.scored) for figure in figures] == [(Place.BEST, first.cases[0])]

    monkeypatch.setattr(measure_case, "synthesise", failing_for(1_000_001, 1_500_000))
    seen.clear()
    second, figures = evaluate(package, run, seen.append)
    assert (seeds(seen, "known"), seeds(seen, "measured")) == ({1_000_001, 1_500_000}, {1_000_000})
    assert second.left_out == ()
    assert tuple(scored.case for scored in second.cases) == WANTED.cases
    assert second.cases[1:] == first.cases
    assert {figure.place for figure in figures} == {Place.BEST, Place.WORST}
    assert all(figure.png.startswith(b"\x89PNG") for figure in figures)


def test_another_model_or_setting_is_measured_anew(
    make_package: Callable[..., ModelPackage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_package()
    measured: list[Head] = []

    def attempt(self: Measuring, case: Head, *_: object) -> Unmeasured:
        measured.append(case)
        return Unmeasured(case, "It is not tried.")

    monkeypatch.setattr(Measuring, "_attempt", attempt)
    wanted = Wanted((Family.PAINTED,), heads=1, lesion_free=0)
    for other in (package, make_package(seed=1)):
        for spacing_mm in (4.0, 5.0):
            evaluate(other, Run(wanted, Measuring(other.folder, spacing_mm), tmp_path / "work"), lambda _: None)
    assert len(measured) == 4
    assert len(list((tmp_path / "work").iterdir())) == 4


def test_a_process_of_its_own_finds_what_this_one_finds(
    written: tuple[Path, object], make_package: Callable[..., ModelPackage], tmp_path: Path
) -> None:
    package = make_package()
    measuring = Measuring(package.folder, alignment=UNMOVED)
    wanted = Wanted(heads=0, lesion_free=0, studies=(written[0],))
    (one, figures), (two, same_figures) = (
        evaluate(package, Run(wanted, measuring, tmp_path / str(processes), processes), lambda _: None)
        for processes in (1, 2)
    )
    assert any(0 < score.dice < 1 for score in one.cases[0].labels)  # fresh weights find something, somewhere
    assert one == two
    assert figures == same_figures


def test_a_model_of_other_labels_is_refused(
    make_package: Callable[..., ModelPackage], edit: Callable[[Path, str, str], None], tmp_path: Path
) -> None:
    folder = make_package().folder
    edit(folder, "enhancing_tumour", "ET")
    run = Run(WANTED, Measuring(folder), tmp_path / "work")
    with pytest.raises(ValueError, match=r"finds ET, adc_abnormality, flair_hyperintensity.*fine-tune it first"):
        evaluate(read_package(folder), run, lambda _: None)
