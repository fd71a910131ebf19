"""A package says whom it learned from, its ancestors too, and what cannot be known is not said to be nobody."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.network import build_network
from models.package import IntendedUse, ModelPackage, PackageBroken
from models.training.dataset.lineage import Learned, Lesson, Overlap, learned_from, overlap_of
from models.training.train.write_package import Provenance, write_package

BASE = Lesson("base 1.0.0", "our key", ("a", "b"), ("c",))
FINE = Lesson("fine 1.0.0", "our key", ("c", "d"), ("a", "e"))


def test_who_was_met_in_training_is_counted_there_alone() -> None:
    learned = Learned((BASE,)).then(FINE)
    assert overlap_of(learned, "our key", {"a", "c", "e", "x", "y"}) == Overlap(5, 2, 1, ())
    assert overlap_of(learned, "our key", {"x", "y"}).warnings() == ()
    assert overlap_of(Learned(()), "our key", {"x"}).warnings() == ()


def test_another_key_leaves_it_unknown() -> None:
    met = overlap_of(Learned((BASE, replace(FINE, key="theirs")), ("older 1",)), "our key", {"b", "x"})
    assert (met.training, met.validation, met.unknown) == (1, 0, ("older 1", "fine 1.0.0"))
    known, unknown = met.warnings()
    assert known.startswith("Of 2 patients, 1 are among those")
    assert "older 1, fine 1.0.0 learned from cannot be known" in unknown


def test_a_package_keeps_it_with_its_weights(make_package: Callable[..., ModelPackage], tmp_path: Path) -> None:
    demonstration = make_package()
    assert learned_from(demonstration) == Learned(())
    research = replace(demonstration, intended_use=IntendedUse.RESEARCH, folder=tmp_path / "research")
    untold = Learned((), ("tiny 1.0.0",))
    assert learned_from(research) == untold
    network = build_network(demonstration.network, 3, 3)
    lessons = Learned((BASE, FINE), ("older 1",))
    written = write_package(research, network, Provenance((), lessons), None)
    assert learned_from(written) == lessons
    # Weights that came later, of which the file tells nothing.
    assert learned_from(replace(written, weights_sha256="0" * 64)) == untold
    (written.folder / "patients.json").write_text("{")
    with pytest.raises(PackageBroken, match=r"patients\.json is damaged"):
        learned_from(written)
