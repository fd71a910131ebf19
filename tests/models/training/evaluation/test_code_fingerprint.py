"""What decides a result changes the fingerprint, and nothing else does."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from models.package import ModelPackage
from models.training.evaluation.code_fingerprint import fingerprint, sources, syntax_tree
from models.training.evaluation.measure_case import MeasureSettings
from pipeline.align_settings import AlignSettings
from tests.support.paths import ROOT


def test_model_and_settings_decide(
    make_package: Callable[..., ModelPackage], edit: Callable[[Path, str, str], None]
) -> None:
    folder = make_package().folder
    settings = MeasureSettings(folder)
    first = fingerprint(settings)
    assert fingerprint(MeasureSettings(folder)) == first
    assert fingerprint(replace(settings, threads=5)) == first
    others = {
        fingerprint(replace(settings, spacing_mm=2.0)),
        fingerprint(replace(settings, alignment=AlignSettings(enabled=False))),
        fingerprint(MeasureSettings(make_package(seed=1).folder)),
    }
    edit(folder, "threshold = 0.5", "threshold = 0.25")
    assert len({first, fingerprint(settings), *others}) == 5


def test_code_that_measures_decides_and_code_that_reports_does_not() -> None:
    names = {str(path.relative_to(ROOT)) for path in sources("models.training.evaluation.measure_case")}
    assert {
        "models/training/synthetic/head.py",
        "models/training/synthetic/anatomy.py",  # by way of synthesis
        "models/training/evaluation/phantom_study.py",
        "models/network.py",
        "pipeline/align.py",
        "pipeline/rules.toml",
    } <= names
    assert not names & {
        "models/training/evaluation/evaluation_card.py",
        "models/training/evaluation/report_page.py",
        "models/training/evaluation/measure_cases.py",
        "models/training/train/synthetic_heads.py",
        "plugin/commands/evaluate.py",
    }


def test_comments_and_docstrings_do_not_decide() -> None:
    bare = "A = 3\ndef f(x):\n    return x + A\n"
    commented = '"""Why."""\nA = 3  # because\n"""Unit."""\n\n\ndef f(x):\n    """What."""\n    return (x + A)\n'
    assert syntax_tree(commented) == syntax_tree(bare)
    assert syntax_tree(bare.replace("3", "4")) != syntax_tree(bare)
    assert syntax_tree(bare.replace("x + A", "A + x")) != syntax_tree(bare)
