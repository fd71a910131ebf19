"""A result that counts as stored survives a power cut, on this host's disk and uploaded from another one."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from models.package import IntendedUse
from pipeline.result import ModelIdentity
from plugin.archive.report import Report, Status
from plugin.archive.result_folder import write_results
from plugin.archive.store import EmbeddedArchive
from plugin.archive.study_inputs import StudyInputs
from plugin.errors import ArchiveUnavailable
from plugin.http.result_upload import ResultUpload
from plugin.http.transfer import pack
from plugin.jobs.job import new_job
from plugin.node.services import open_archive
from plugin.settings.sections import Settings
from plugin.sources.study_source import DiskSource
from tests.support.durable_disk import DurableDisk

Watch = Callable[[Path], DurableDisk]
JOB = new_job("1.2.3", ["1.2.3.4"], "m")


def write_report(folder: Path) -> None:
    model = ModelIdentity("m", "1", "0" * 64, IntendedUse.DEMONSTRATION)
    write_results(Report(JOB.study_instance_uid, Status.FAILED, "-", model, "cpu"), [], folder)


def upload(archive: EmbeddedArchive, folder: Path) -> Path:
    packed = io.BytesIO()
    pack(folder, packed)
    received = ResultUpload(archive, JOB.key)
    try:
        received.write(packed.getvalue())
        return received.finish(hashlib.sha256(packed.getvalue()).digest())
    finally:
        received.discard()


def survive(disk: DurableDisk, root: Path, folder: Path) -> bool:
    """Return whether the files of a folder are found after a power cut."""
    left = disk.after_power_cut()
    return all(left.get(str(path.relative_to(root))) == path.read_bytes() for path in folder.iterdir())


def test_a_result_on_this_hosts_disk_survives(tmp_path: Path, durable_disk: Watch) -> None:
    disk = durable_disk(tmp_path)  # before the node makes its data folder
    with open_archive(Settings(storage={"data_dir": str(tmp_path / "far" / "data")})) as archive:
        source = DiskSource(archive)
        with source.workspace(JOB, StudyInputs((), (), 0)) as workspace:
            write_report(workspace.results)
            assert not survive(disk, tmp_path, workspace.results), "it does not count as stored yet"
            assert survive(disk, tmp_path, source.store_results(JOB, workspace.results))


def test_an_archive_that_is_empty_as_a_whole_is_waited_for(tmp_path: Path) -> None:
    archive = EmbeddedArchive(tmp_path / "archive", 0)
    source = DiskSource(archive)
    with pytest.raises(ArchiveUnavailable, match=r"is empty.*Is the disk of storage.data_dir mounted\?"):
        source.inputs(JOB)
    archive.open()
    with pytest.raises(ArchiveUnavailable):
        source.inputs(JOB)
    (tmp_path / "archive" / "1.2.9" / "1.2.9.1").mkdir(parents=True)
    assert source.inputs(JOB) == StudyInputs((), (), 0)


def test_an_uploaded_result_survives(tmp_path: Path, durable_disk: Watch) -> None:
    write_report(tmp_path / "made")
    disk = durable_disk(tmp_path)
    with open_archive(Settings(storage={"data_dir": str(tmp_path / "data")})) as archive:
        assert survive(disk, tmp_path, upload(archive, tmp_path / "made"))


def test_a_result_that_another_upload_has_just_moved_survives_as_well(tmp_path: Path, durable_disk: Watch) -> None:
    write_report(tmp_path / "made")
    with open_archive(Settings(storage={"data_dir": str(tmp_path / "data")})) as archive:
        folder = upload(archive, tmp_path / "made")
        folder.rename(tmp_path / "elsewhere")
        disk = durable_disk(tmp_path)
        (tmp_path / "elsewhere").rename(folder)
        assert not survive(disk, tmp_path, folder)
        assert survive(disk, tmp_path, upload(archive, tmp_path / "made"))


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_result_is_replaced_by_the_next_upload(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    write_report(tmp_path / "made")
    with open_archive(Settings(storage={"data_dir": str(tmp_path / "data")})) as archive:
        folder = upload(archive, tmp_path / "made")
        damage(folder / "report.json")
        assert upload(archive, tmp_path / "made") == folder
        assert (folder / "report.json").read_bytes() == (tmp_path / "made" / "report.json").read_bytes()
        assert list((tmp_path / "data" / "incoming").iterdir()) == []
