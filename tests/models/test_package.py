"""Packages are read, checked, found and installed; each mistake has its error message."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from models.install import install_package, verify_package
from models.labels import PAPER_LABELS, Role
from models.package import (
    BUNDLED,
    CARD_FILE,
    IntendedUse,
    ModelPackage,
    PackageBroken,
    find_package,
    list_packages,
    read_package,
)
from models.training.train.write_package import Provenance, write_package
from models.weights import load_network

NONE = Provenance(())
Make = Callable[..., ModelPackage]
Edit = Callable[[Path, str, str], None]


def test_what_was_written_is_read(make_package: Make) -> None:
    package = make_package()
    assert package.channels == (Role.ADC, Role.FLAIR, Role.T1CE)
    assert [label.name for label in package.labels] == [label.name for label in PAPER_LABELS]
    assert package.intended_use is IntendedUse.DEMONSTRATION
    assert package.network.stride == 2
    verify_package(package)


def test_a_folder_without_model_toml_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(PackageBroken, match=r"is no model package: it has no model\.toml"):
        read_package(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("format = 1", "format = 2", "format is 2; this version of glionode reads 1"),
        ("[weights]", "[waits]", "weights is missing"),
        ("output = [", "outcome = [", "output is missing"),
        ("spacing_mm =", "spacing =", "spacing_mm is missing"),
        ('"ADC"', '"PET"', r"input\.channels\.0: Input should be 'T1', 'T1CE'"),
        ('"ADC"', '"FLAIR"', "input channels must be named once each"),
        ('"adc_abnormality"', '"enhancing_tumour"', "output labels must be named once each"),
        ("threshold = 0.5", "threshold = 1.5", "a threshold must lie between 0 and 1"),
        ("spacing_mm = 3.0", "spacing_mm = 3.0\nwindow = 33", "window must be a multiple of"),
        ("spacing_mm = 3.0", "spacing_mm = 3.0\nmirror = 1", r"input\.mirror: Input should be a valid boolean"),
        ("spacing_mm = 3.0", "spacing_mm = 3.0\nmirorr = true", r"unknown key input\.mirorr"),
        ("format = 1", "format = 1\nfromat = 1", "unknown key fromat"),
        ("sha256 =", "sha1 =", r"weights\.sha256 is missing"),
        ("threshold = 0.5", "threshold = 0.5, threshhold = 0.7", r"unknown key output\.0\.threshhold"),
        ("threshold = 0.5", 'threshold = "half"', r"output\.0\.threshold: Input should be a valid number"),
        ("init_filters = 8", "init_filters = 8\nblocks_sideways = 1", r"unknown key network\.blocks_sideways"),
        ("init_filters = 8", "", r"network\.init_filters is missing"),
        ("spacing_mm = 3.0", "spacing_mm = 30.0", "spacing_mm must lie between 0.2 and 5"),
        ("robust-head-1", "z-score", "normalisation 'z-score' is unknown"),
        ('"nontrainable"', '"magic"', r"network\.upsample_mode: Input should be 'deconv'"),
        ('name = "tiny"', 'name = "../tiny"', r"name must be small letters, digits.*not '\.\./tiny'"),
        ('"demonstration"', '"anything"', "intended_use: Input should be 'demonstration'"),
        ("init_filters = 8", "init_filters = 9", "needs a multiple of 8"),
        ("init_filters = 8", "init_filters = 8\nspace_to_depth = 0", "space_to_depth is 0"),
        (
            "init_filters = 8",
            'init_filters = 8\nspace_to_depth = "two"',
            r"space_to_depth: Input should be a valid int",
        ),
        ("threshold = 0.5", 'threshold = 0.5, refinement = { channels = ["T2"], weight = 1 }', "one or two of"),
        ("threshold = 0.5", "threshold = 0.5, refinement = { channels = [], weight = 1 }", "one or two of"),
        ("threshold = 0.5", 'threshold = 0.5, refinement = { channels = ["ADC"], weight = 0 }', "the weight of a"),
        (
            "threshold = 0.5",
            'threshold = 0.5, refinement = { channels = ["ADC"] }',
            r"refinement\.weight is missing",
        ),
        ("threshold = 0.5", "threshold = 0.5, refinement = true", r"output\.0\.refinement: Input should be"),
        ("[input]", "[input", "cannot be read"),
        ("spacing_mm = 3.0", 'spacing_mm = 3.0\noptional = ["ADC"]', "optional channels needs presence = true"),
        (
            "spacing_mm = 3.0",
            'spacing_mm = 3.0\noptional = ["PET"]',
            r"input\.optional\.0: Input should be 'T1', 'T1CE'",
        ),
        ("spacing_mm = 3.0", 'spacing_mm = 3.0\noptional = ["T2"]\npresence = true', "optional channels are some of"),
        (
            "spacing_mm = 3.0",
            'spacing_mm = 3.0\noptional = ["ADC", "FLAIR", "T1CE"]\npresence = true',
            "at least one input channel must not be optional",
        ),
        ("spacing_mm = 3.0", "spacing_mm = 3.0\npresence = 1", r"input\.presence: Input should be a valid boolean"),
        (
            '"enhancing_tumour"',
            '"enhancing_tumour", inferred_from = ["FLAIR"]',
            "enhancing_tumour is not inferred: what enhances is seen after contrast alone",
        ),
        ("threshold = 0.5", 'threshold = 0.5, inferred_from = ["T2"]', "a label is inferred from some of the input"),
        ("threshold = 0.5", 'threshold = 0.5, inferred_from = ["ADC", "ADC"]', "a label is inferred from some of the"),
    ],
)
def test_each_mistake_in_model_toml_has_its_sentence(
    make_package: Make, edit: Edit, old: str, new: str, sentence: str
) -> None:
    folder = make_package().folder
    edit(folder, old, new)
    with pytest.raises(PackageBroken, match=sentence):
        read_package(folder)


def test_a_window_is_read(make_package: Make, edit: Edit) -> None:
    folder = make_package().folder
    assert read_package(folder).window is None
    edit(folder, "spacing_mm = 3.0", "spacing_mm = 3.0\nwindow = 96")
    assert read_package(folder).window == 96


def test_the_use_of_the_mirror_image_is_read(make_package: Make, edit: Edit) -> None:
    folder = make_package().folder
    assert not read_package(folder).mirror
    edit(folder, "spacing_mm = 3.0", "spacing_mm = 3.0\nmirror = true")
    assert read_package(folder).mirror


def test_a_package_says_what_it_can_do_without(make_package: Make, edit: Edit) -> None:
    package = make_package()
    assert package.required == package.channels
    assert not package.presence
    assert package.network_channels == 3
    package = make_package("lacking", optional=(Role.ADC,))
    assert package.optional == (Role.ADC,)
    assert package.required == (Role.FLAIR, Role.T1CE)
    assert package.network_channels == 6
    verify_package(package)  # the network has twice as many channels
    edit(package.folder, '"adc_abnormality"', '"adc_abnormality", inferred_from = ["FLAIR", "T1CE"]')
    assert read_package(package.folder).labels[1].inferred_from == (Role.FLAIR, Role.T1CE)


def test_what_a_package_can_do_without_identifies_its_weights(make_package: Make) -> None:
    package = make_package("lacking", optional=(Role.ADC,))
    labels = (*package.labels[:2], dataclasses.replace(package.labels[2], inferred_from=(Role.T1CE,)))
    less, inferring = dataclasses.replace(package, optional=()), dataclasses.replace(package, labels=labels)
    written = [
        write_package(
            dataclasses.replace(each, folder=package.folder.parent / f"{number}"), load_network(package), NONE, None
        )
        for number, each in enumerate((package, less, inferring))
    ]
    assert written[0].weights_sha256 == package.weights_sha256
    assert len({each.weights_sha256 for each in written}) == 3
    assert written[2].labels == inferring.labels


def test_tampered_weights_are_refused(make_package: Make) -> None:
    package = make_package()
    content = bytearray(package.weights_path.read_bytes())
    content[-1] ^= 1
    package.weights_path.write_bytes(bytes(content))
    with pytest.raises(PackageBroken, match=r"The weights were changed or damaged; install the package again"):
        verify_package(package)


def test_missing_weights_and_missing_card_are_refused(make_package: Make) -> None:
    package = make_package()
    (package.folder / CARD_FILE).unlink()
    with pytest.raises(PackageBroken, match=r"MODEL_CARD\.md is missing"):
        verify_package(package)
    package.weights_path.unlink()
    with pytest.raises(PackageBroken, match="cannot be read"):
        verify_package(package)


def test_install_copies_a_package_that_is_found_before_a_bundled_one(make_package: Make, tmp_path: Path) -> None:
    source = make_package()
    installed = tmp_path / "installed"
    package = install_package(source.folder, installed)
    assert package.folder == installed / "tiny"
    assert find_package("tiny", installed) == package
    assert list_packages(installed)[0] == package
    assert package.weights_bytes == source.weights_bytes
    assert [path.name for path in installed.iterdir()] == ["tiny"]


def test_install_copies_the_patients_file(make_package: Make, tmp_path: Path) -> None:
    source = make_package()
    (source.folder / "patients.json").write_text("{}")
    assert (install_package(source.folder, tmp_path / "installed").folder / "patients.json").read_text() == "{}"


def test_install_refuses_other_weights_under_the_same_version(make_package: Make, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    first = install_package(make_package(seed=1).folder, installed)
    with pytest.raises(PackageBroken, match="installed with other weights; give the new one a new version"):
        install_package(make_package(seed=2).folder, installed)
    assert read_package(installed / "tiny") == first
    newer = install_package(make_package(version="1.1.0", seed=2).folder, installed)
    assert newer.version == "1.1.0"
    assert newer.weights_sha256 != first.weights_sha256


def test_install_of_a_broken_package_leaves_nothing(make_package: Make, tmp_path: Path) -> None:
    source = make_package()
    source.weights_path.write_bytes(b"nothing")
    with pytest.raises(PackageBroken):
        install_package(source.folder, tmp_path / "installed")
    assert not (tmp_path / "installed").exists()


@pytest.mark.parametrize("name", ["absent", "../tiny", ""])
def test_an_unknown_name_says_how_to_list(name: str, tmp_path: Path) -> None:
    with pytest.raises(PackageBroken, match="`glionode models list` shows those there are"):
        find_package(name, tmp_path)


def test_bundled_packages_verify() -> None:
    packages = list_packages(None)
    assert "phantom-demo" in [package.name for package in packages]
    for package in packages:
        verify_package(package)
        assert package.folder.parent == BUNDLED
        assert package.folder.name == package.name


def test_the_bundled_demonstration_says_what_it_is() -> None:
    package = find_package("phantom-demo", None)
    assert package.intended_use is IntendedUse.DEMONSTRATION
    first_line = (package.folder / CARD_FILE).read_text(encoding="utf-8").splitlines()[0]
    assert "demonstration, not for patients" in first_line
    assert package.weights_path.stat().st_size < 12_000_000


def test_packages_cannot_be_changed(make_package: Make) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_package().name = "other"  # type: ignore[misc]


def test_the_digest_of_a_package_changes_with_its_settings(make_package: Make) -> None:
    package = make_package()
    where = package.folder / "model.toml"
    assert package.sha256 == hashlib.sha256(where.read_bytes()).hexdigest()
    text = where.read_text()
    assert text.count("threshold = 0.5") == 3
    where.write_text(text.replace("threshold = 0.5", "threshold = 0.4", 1))
    changed = read_package(package.folder)
    assert changed.weights_sha256 == package.weights_sha256
    assert changed.sha256 != package.sha256
