"""A package names the patients that it and its ancestors learned from; an unknown overlap is reported as unknown."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.network import build_network
from models.package import IntendedUse, ModelPackage, PackageBroken
from models.training.dataset.lineage import Lineage, Overlap, TrainingRecord, find_overlap, read_lineage
from models.training.train.write_package import Provenance, write_package

BASE = TrainingRecord("base 1.0.0", "our key", ("a", "b"), ("c",))
FINE = TrainingRecord("fine 1.0.0", "our key", ("c", "d"), ("a", "e"))


def test_a_patient_of_training_and_validation_counts_for_training_only() -> None:
    learned = Lineage((BASE,)).with_record(FINE)
    assert find_overlap(learned, "our key", {"a", "c", "e", "x", "y"}) == Overlap(5, 2, 1, ())
    assert find_overlap(learned, "our key", {"x", "y"}).warnings() == ()
    assert find_overlap(Lineage(()), "our key", {"x"}).warnings() == ()


def test_the_overlap_is_unknown_under_another_key() -> None:
    met = find_overlap(Lineage((BASE, replace(FINE, key="theirs")), ("older 1",)), "our key", {"b", "x"})
    assert (met.training, met.validation, met.unknown) == (1, 0, ("older 1", "fine 1.0.0"))
    known, unknown = met.warnings()
    assert known.startswith("Of 2 patients, 1 are among those")
    assert "older 1, fine 1.0.0 learned from cannot be known" in unknown


def test_a_package_keeps_the_lineage_of_its_weights(make_package: Callable[..., ModelPackage], tmp_path: Path) -> None:
    demonstration = make_package()
    assert read_lineage(demonstration) == Lineage(())
    research = replace(demonstration, intended_use=IntendedUse.RESEARCH, folder=tmp_path / "research")
    undocumented = Lineage((), ("tiny 1.0.0",))
    assert read_lineage(research) == undocumented
    network = build_network(demonstration.network, 3, 3)
    lessons = Lineage((BASE, FINE), ("older 1",))
    written = write_package(research, network, Provenance((), lessons), None)
    assert read_lineage(written) == lessons
    # The file does not describe weights that were written later.
    assert read_lineage(replace(written, weights_sha256="0" * 64)) == undocumented
    whole = json.loads((written.folder / "patients.json").read_text())
    for change, sentence in (
        ({"source": "here"}, r"patients\.json is damaged.*\(unknown key source"),
        ({"untold": "older 1"}, r"patients\.json is damaged.*\(untold: Input should be"),
        ({"format": 2}, r"patients\.json is damaged, or of a newer glionode \(format"),
    ):
        (written.folder / "patients.json").write_text(json.dumps(whole | change))
        with pytest.raises(PackageBroken, match=sentence):
            read_lineage(written)
    (written.folder / "patients.json").write_text("{")
    with pytest.raises(PackageBroken, match=r"patients\.json is damaged"):
        read_lineage(written)
