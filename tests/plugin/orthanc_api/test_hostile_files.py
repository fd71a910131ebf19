"""Hostile files in an archive that a plugin sees: each is shown or skipped, and others are not affected."""

import json
import logging
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from plugin.archive.file_meta import encode_file_meta
from plugin.database.pool import Database
from plugin.orthanc_api.enums import ChangeType
from tests.support.hosted_plugin import SCANNER, HostedPluginFixture, running
from tests.support.hostile_dicom import bomb, mutated
from tests.support.node import MARKER, make_instance, new_study_uid, wait_until

MUTATIONS, STUDIES, SEED = 300, 10, 7
BOMB_MIB = 512
PATHS = ("tags", "simplified-tags", "header", "content", "metadata?expand", "statistics", "frames", "content/0010-0010")


def put(plugin: HostedPluginFixture, study: str, name: str, syntax: str, data_set: bytes) -> None:
    """A file as it would lie there if the listener had taken it."""
    folder = plugin.archive.data_dir / "archive" / study / f"{study}.1"
    folder.mkdir(parents=True, exist_ok=True)
    meta = encode_file_meta("1.2.840.10008.5.1.4.1.1.4", name, syntax)
    (folder / name).write_bytes(meta + data_set)
    (folder / name).rename(folder / f"{name}.dcm")  # whole, or not there


@pytest.mark.filterwarnings("ignore::UserWarning")  # as in the node: pydicom warns of what it reads forgivingly
def test_damaged_files_are_shown_or_skipped(
    data_dir: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with running(data_dir, database) as plugin:
        for number, each in enumerate(mutated(MUTATIONS, STUDIES, SEED)):
            put(plugin, each.study_instance_uid, f"1.2.{number + 1}", each.syntax, each.content)
            plugin.plugin.touch(each.study_instance_uid, SCANNER)
        whole = plugin.receive(make_instance(new_study_uid()))
        wait_until(lambda: plugin.events_of(ChangeType.NEW_INSTANCE, whole.instance), "the whole one is reported")
        wait_until(lambda: len(plugin.script.STORED) == len(plugin.events_of(ChangeType.NEW_INSTANCE)), "all are shown")
        instances = json.loads(plugin.orthanc.RestApiGet("/instances"))
        assert MUTATIONS / 3 < len(instances) <= MUTATIONS + 1, "most can be read, some cannot"
        answers = [request(plugin, f"/instances/{name}/{path}") for name in instances for path in PATHS]
    assert answers.count(0) > len(answers) / 2
    assert set(answers) <= {0, plugin.orthanc.ErrorCode.UNKNOWN_RESOURCE, plugin.orthanc.ErrorCode.INTERNAL_ERROR}
    said = "\n".join(each.getMessage() for each in caplog.records if each.name.startswith("plugin."))
    assert "is hidden from the hosted plugin" in said
    assert MARKER not in said
    assert "callback raised" not in said


def request(plugin: HostedPluginFixture, path: str) -> int:
    """0 where it is answered, else Orthanc's code."""
    try:
        plugin.orthanc.RestApiGet(path)
    except plugin.orthanc.OrthancException as exc:
        return int(exc.args[0])
    return 0


def test_a_deflate_bomb_is_skipped_without_inflating_it(
    data_dir: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    study = new_study_uid()
    with running(data_dir, database) as plugin:
        put(plugin, study, "1.2.3", DeflatedExplicitVRLittleEndian, bomb(make_instance(study), BOMB_MIB))
        whole = plugin.receive(make_instance(study, number=2))
        wait_until(lambda: plugin.events_of(ChangeType.NEW_INSTANCE, whole.instance), "the whole one is reported")
        assert len(plugin.events_of(ChangeType.NEW_INSTANCE)) == 1
    assert f"an instance of study {study} is hidden from the hosted plugin: a deflated file of more than" in caplog.text
