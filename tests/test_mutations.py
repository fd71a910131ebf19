"""Test that the list of mutations fits the code. `scripts/mutate` tries them, which takes minutes."""

import tomllib
from typing import Any

import pytest

from tests.support.paths import ROOT

MUTATIONS = tomllib.loads((ROOT / "tests" / "mutations.toml").read_text(encoding="utf-8"))["mutation"]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each["what"])
def test_a_mutation_can_be_applied_and_its_tests_are_there(mutation: dict[str, Any]) -> None:
    assert mutation.keys() == {"what", "file", "old", "new", "tests"}
    assert (ROOT / mutation["file"]).read_text(encoding="utf-8").count(mutation["old"]) == 1
    assert mutation["new"] != mutation["old"]
    missing = [test for test in mutation["tests"] if not (ROOT / test.partition("::")[0]).exists()]
    assert mutation["tests"]
    assert not missing


def test_no_mutation_is_listed_twice() -> None:
    assert len({each["what"] for each in MUTATIONS}) == len(MUTATIONS)
