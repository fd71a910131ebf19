"""Corrected patients in a node: the study is segmented for the new one, and an operator can see and undo it."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

from pydicom import Dataset, dcmread

from plugin.archive.replaced_files import replaced_files
from tests.support.node import (
    NodeInThread,
    Pacs,
    config_of,
    make_instance,
    new_study_uid,
    refusal,
    run,
    send,
    wait_until,
)

MakeNode = Callable[..., NodeInThread]


def corrected(instances: list[Dataset], patient: str = "CORRECTED-1") -> list[Dataset]:
    made = deepcopy(instances)
    for instance in made:
        instance.PatientID = patient
    return made


def jobs_of(config: Path) -> list[dict[str, object]]:
    """Return the jobs of a node, newest first."""
    found: list[dict[str, object]] = json.loads(run(config, "jobs", "--json")[1])
    return found


def test_a_corrected_study_is_segmented_again_and_its_results_supersede(
    make_node: MakeNode, data_dir: Path, pacs: Pacs
) -> None:
    pacs.status = 0xA700  # the results for the first patient wait
    node = make_node(destinations=[pacs.destination()]).start()
    study, config = new_study_uid(), config_of(node, data_dir)
    instances = [make_instance(study, number=number) for number in (1, 2)]
    send(node.port, *instances)
    wait_until(lambda: node.jobs_are(segmented=1), "the study is segmented")
    send(node.port, *corrected(instances))
    wait_until(lambda: node.jobs_are(segmented=2), "the study is segmented for the other patient")
    second, first = jobs_of(config)
    assert (first["superseded_by"], second["superseded_by"], second["replacements"]) == (second["key"], None, 2)
    assert set(first["objects"]) == {"withdrawn"}  # type: ignore[call-overload]
    pacs.status = 0x0000
    run(config, "retry", "--dead", "--failed")
    wait_until(lambda: set(jobs_of(config)[0]["objects"]) == {"sent"}, "the new results are sent")  # type: ignore[call-overload]
    assert set(jobs_of(config)[1]["objects"]) == {"withdrawn"}  # type: ignore[call-overload]
    said = (
        "2 instances came again for another patient and took the place of the first, which are kept, too; (0010,0020)"
    )
    wait_until(lambda: said in run(config, "show", str(second["key"]))[1], "the audit has it")
    shown = run(config, "show", str(second["key"]))[1]
    assert "Replaced images: 2" in shown
    assert "CORRECTED-1" not in shown


def test_a_correction_is_undone_and_the_undoing_too(make_node: MakeNode, data_dir: Path) -> None:
    node = make_node().start()
    study, config = new_study_uid(), config_of(node, data_dir)
    instances = [make_instance(study, number=number) for number in (1, 2)]
    send(node.port, *instances)
    wait_until(lambda: node.jobs_are(segmented=1), "the study is segmented")
    send(node.port, *corrected(instances[:1]))
    wait_until(lambda: node.jobs_are(segmented=2), "the study is segmented for the other patient")
    listed = json.loads(run(config, "replacements", study, "--json")[1])
    assert [(each["sop_instance_uid"], each["times"], each["differs"]) for each in listed] == [
        (instances[0].SOPInstanceUID, 1, "(0010,0020)")
    ]
    path = next((data_dir / "data" / "archive" / study).glob(f"*/{instances[0].SOPInstanceUID}.dcm"))
    patients = []
    for count in (3, 4):
        assert run(config, "replacements", study, "--undo")[0] == 0
        wait_until(lambda count=count: node.jobs_are(segmented=count), "the study is segmented again")  # type: ignore[misc]
        patients.append(dcmread(path).PatientID)
        assert len(replaced_files(path)) == count - 1
        newest, *others = jobs_of(config)
        assert (newest["superseded_by"], {each["superseded_by"] for each in others[:1]}) == (None, {newest["key"]})
    assert patients == [instances[0].PatientID, "CORRECTED-1"]
    assert "1 images are for the patient before again" in run(config, "show", study)[1]


def test_nothing_to_undo_is_said(make_node: MakeNode, data_dir: Path) -> None:
    node = make_node().start()
    config = config_of(node, data_dir)
    status, said = refusal("replacements", "1.2.3", "--undo", "--config", config)
    assert (status, said) == (1, "No image of study 1.2.3 in the archive took the place of one of another patient.")
    assert refusal("replacements", "x", "--config", config) == (1, "'x' is not a study instance UID.")
