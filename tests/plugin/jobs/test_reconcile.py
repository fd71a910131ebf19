"""When a study counts as complete and gets a job, and which studies are checked again."""

import errno
import os
from pathlib import Path

import pytest

from models.labels import Role
from plugin.archive.file_meta import encode_file_meta
from plugin.archive.store import EmbeddedArchive, FolderTimes, InstanceKey
from plugin.archive.study_inputs import StudyInputs
from plugin.jobs.archive_index import mark
from plugin.jobs.job import Job, JobState
from plugin.jobs.reconcile import Reconciler, is_ready
from plugin.settings.sections import StudySettings
from tests.support.node import MR_IMAGE_STORAGE

SETTINGS = StudySettings(stable_after_s=30, force_after_s=3600)


@pytest.mark.parametrize(
    ("first", "last", "ready"),
    [(1000, 1000, False), (971, 971, False), (970, 970, True), (0, 969, True), (0, 971, False), (-2600, 999, True)],
)
def test_a_study_is_complete_when_quiet_or_after_the_longest_wait(first: float, last: float, ready: bool) -> None:
    assert is_ready(first, last, 1000, SETTINGS) is ready


def test_a_force_time_of_zero_never_completes_a_study() -> None:
    assert not is_ready(0, 1e9, 1e9 + 1, StudySettings(force_after_s=0))


class RecordingQueue:
    """Record the jobs that are added, and raise if `broken`."""

    def __init__(self) -> None:
        self.added: list[Job] = []
        self.finished: list[tuple[Job, JobState, str]] = []
        self.broken = False
        self.held: frozenset[str] = frozenset()

    def held_studies(self) -> frozenset[str]:
        return self.held

    def add(self, job: Job) -> Job:
        if self.broken:
            raise ConnectionError
        self.added.append(job)
        return job

    def add_finished(self, job: Job, state: JobState, reason: str) -> Job:
        self.finished.append((job, state, reason))
        return job


def store(archive: EmbeddedArchive, study: str, number: int, sop_class: str = MR_IMAGE_STORAGE) -> None:
    key = InstanceKey(study, f"{study}.1", f"{study}.1.{number}")
    incoming = archive.create_file()
    incoming.write(encode_file_meta(sop_class, key.sop_instance_uid, "1.2.840.10008.1.2.1"))
    archive.store(key, incoming)


@pytest.fixture
def archive(tmp_path: Path) -> EmbeddedArchive:
    made = EmbeddedArchive(tmp_path / "archive", 0)
    made.open()
    return made


def test_a_complete_study_gets_a_job_and_a_new_one_after_late_instances(archive: EmbeddedArchive) -> None:
    store(archive, "1.1", 1)
    store(archive, "1.2", 1)
    queue = RecordingQueue()
    reconciler = Reconciler(archive, queue, SETTINGS, "m")  # type: ignore[arg-type]
    last = archive.last_received("1.2")
    assert last is not None
    reconciler.poll(last, last)
    assert queue.added == []
    reconciler.poll(last + 31, last + 31)
    assert [job.study_instance_uid for job in queue.added] == ["1.1", "1.2"]
    reconciler.poll(last + 62, last + 62)
    assert len(queue.added) == 2
    store(archive, "1.1", 2)
    reconciler.touch("1.1")
    reconciler.poll(last + 93, last + 93)
    assert [job.study_instance_uid for job in queue.added] == ["1.1", "1.2", "1.1"]
    assert queue.added[2].key != queue.added[0].key


def test_corrected_images_get_a_job_once_the_last_one_came(archive: EmbeddedArchive) -> None:
    for number in (1, 2):
        store(archive, "1.1", number)
    files, series = archive.files("1.1"), archive.files("1.1")[0].parent
    now = files[0].stat().st_mtime
    queue = RecordingQueue()
    reconciler = Reconciler(archive, queue, SETTINGS, "m")  # type: ignore[arg-type]
    reconciler.poll(now + 31, now + 31)
    for days, path in enumerate(files, start=1):
        incoming = archive.create_file()
        incoming.write(path.read_bytes())
        archive.replace(InstanceKey("1.1", series.name, path.stem), incoming)
        at = now + 86400 + days  # a day later, and so long after the first instance of the study
        os.utime(path, (at, at))
        os.utime(series, (at, at))
        reconciler.touch("1.1")
        reconciler.poll(at + 0.1, at + 0.1)
        assert len(queue.added) == 1, "the other image may still come, of the other patient"
    reconciler.poll(now + 86400 + 40, now + 86400 + 40)
    assert [job.replacements for job in queue.added] == [0, 2]
    assert queue.added[0].key != queue.added[1].key


def test_instances_of_other_kinds_change_no_job_and_make_a_study_not_eligible(archive: EmbeddedArchive) -> None:
    segmentation = "1.2.840.10008.5.1.4.1.1.66.4"
    store(archive, "1.1", 1)
    queue = RecordingQueue()
    reconciler = Reconciler(archive, queue, SETTINGS, "m")  # type: ignore[arg-type]
    reconciler.poll(1e12, 1e12)
    store(archive, "1.1", 2, segmentation)
    store(archive, "1.3", 1, segmentation)
    reconciler.touch("1.1")
    reconciler.touch("1.3")
    reconciler.poll(1e12 + 31, 1e12 + 31)
    assert {job.key for job in queue.added} == {queue.added[0].key}
    ((job, state, reason),) = queue.finished
    assert (job.study_instance_uid, state) == ("1.3", JobState.NOT_ELIGIBLE)
    assert "no MR images (1 instances" in reason


def test_a_poll_that_fails_forgets_no_study(archive: EmbeddedArchive) -> None:
    store(archive, "1.1", 1)
    store(archive, "1.2", 1)
    queue = RecordingQueue()
    queue.broken = True
    reconciler = Reconciler(archive, queue, SETTINGS, "m")  # type: ignore[arg-type]
    with pytest.raises(ConnectionError):
        reconciler.poll(1e12, 1e12)
    queue.broken = False
    reconciler.poll(1e12, 1e12)
    assert sorted(job.study_instance_uid for job in queue.added) == ["1.1", "1.2"]


def test_a_study_from_the_future_counts_as_arrived_now_and_is_told(archive: EmbeddedArchive) -> None:
    store(archive, "1.1", 1)
    store(archive, "1.2", 1)
    now = archive.folder_times("1.2")[0][1] / 1e9
    os.utime(archive.files("1.1")[0].parent, (now + 86400 * 365, now + 86400 * 365))
    os.utime(archive.files("1.1")[0], (now + 86400 * 365, now + 86400 * 365))
    queue, told = RecordingQueue(), []
    reconciler = Reconciler(archive, queue, SETTINGS, "m", told.append)  # type: ignore[arg-type]
    reconciler.poll(now, 5.0)
    assert (queue.added, len(told)) == ([], 1)
    assert "1.1" in told[0]
    assert "8760.0 h ahead" in told[0]
    reconciler.poll(now + 29, 34.0)
    assert queue.added == []
    reconciler.poll(now + 30, 35.0)
    assert [job.study_instance_uid for job in queue.added] == ["1.1", "1.2"]
    assert len(told) == 1
    assert archive.last_received("1.1") == pytest.approx(now), "retention counts from now on, too"


def test_an_image_that_comes_beside_a_series_from_the_future_is_seen(archive: EmbeddedArchive) -> None:
    """A host whose clock is within the tolerance, as that of a file server may be."""
    store(archive, "1.1", 1)
    series = archive.files("1.1")[0].parent
    now = series.stat().st_mtime
    os.utime(series, (now + 50, now + 50))
    queue = RecordingQueue()
    reconciler = Reconciler(archive, queue, SETTINGS, "m")  # type: ignore[arg-type]
    reconciler.poll(now, 0.0)
    reconciler.poll(now + 31, 31.0)
    (other := series.with_name("1.1.2")).mkdir()
    (other / "1.1.2.1.dcm").write_bytes(archive.files("1.1")[0].read_bytes())
    os.utime(other, (now + 32, now + 32))
    reconciler.touch("1.1")
    reconciler.poll(now + 33, 33.0)
    reconciler.poll(now + 70, 70.0)
    assert [job.image_count for job in queue.added] == [1, 2]


@pytest.mark.parametrize("jump_s", [-86400.0, 86400.0])
def test_a_clock_that_is_set_changes_no_quiet_time(archive: EmbeddedArchive, jump_s: float) -> None:
    store(archive, "1.1", 1)
    now = archive.folder_times("1.1")[0][1] / 1e9
    queue = RecordingQueue()
    reconciler = Reconciler(archive, queue, SETTINGS, "m")  # type: ignore[arg-type]
    reconciler.poll(now, 100.0)
    reconciler.poll(now + 10 + jump_s, 110.0)
    reconciler.poll(now + 29, 129.0)
    assert queue.added == [], "29 seconds have passed"
    store(archive, "1.1", 2)
    os.utime(archive.files("1.1")[0].parent, (now + 29, now + 29))  # before the clock was set
    reconciler.poll(now + 29.1 + jump_s, 129.1)
    reconciler.poll(now + 50, 150.0)
    assert queue.added == [], "the second image came 21 seconds ago, though the clock is right again"
    reconciler.poll(now + 60, 160.0)
    assert [job.image_count for job in queue.added] == [2]


class Remembered:
    """What is kept of settled studies beyond a process."""

    def __init__(self) -> None:
        self.marks: dict[str, str] = {}

    def read_settled(self) -> dict[str, str]:
        return dict(self.marks)

    def write_settled(self, study: str, folders: FolderTimes, urgent: bool) -> None:
        self.marks[study] = mark(folders, urgent)


def test_a_later_process_looks_only_into_studies_that_changed(archive: EmbeddedArchive) -> None:
    for study in ("1.1", "1.2", "1.3"):
        store(archive, study, 1)
    remembered, queue = Remembered(), RecordingQueue()
    Reconciler(archive, queue, SETTINGS, "m", remembered=remembered).poll(1e12, 0.0)  # type: ignore[arg-type]
    assert len(queue.added) == 3
    store(archive, "1.2", 2)
    archive.mark_urgent("1.3")
    again = RecordingQueue()
    Reconciler(archive, again, SETTINGS, "m", remembered=remembered).poll(1e12, 0.0)  # type: ignore[arg-type]
    assert [(job.study_instance_uid, job.urgent) for job in again.added] == [("1.2", False), ("1.3", True)]


def test_a_study_that_comes_does_not_wait_for_a_long_scan(
    archive: EmbeddedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugin.jobs.reconcile._AT_A_TIME", 1)
    for study in ("1.1", "1.2", "1.9"):
        store(archive, study, 1)
    queue = RecordingQueue()
    reconciler = Reconciler(archive, queue, SETTINGS, "m")  # type: ignore[arg-type]
    reconciler.touch("1.9")
    reconciler.poll(1e12, 0.0)
    assert [job.study_instance_uid for job in queue.added] == ["1.9", "1.1"]
    reconciler.poll(1e12, 0.0)
    reconciler.poll(1e12, 0.0)
    assert [job.study_instance_uid for job in queue.added] == ["1.9", "1.1", "1.2"]


def test_a_file_that_cannot_be_read_holds_up_no_other_study(
    archive: EmbeddedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(archive, "1.1", 1)
    store(archive, "1.2", 1)
    queue = RecordingQueue()
    reconciler = Reconciler(archive, queue, SETTINGS, "m")  # type: ignore[arg-type]
    folder_times = archive.folder_times

    def failing(study: str) -> FolderTimes:
        if study == "1.1":
            raise OSError(errno.EIO, "Input/output error")
        return folder_times(study)

    monkeypatch.setattr(archive, "folder_times", failing)
    with pytest.raises(OSError, match="Input/output"):
        reconciler.poll(1e12, 0.0)
    assert [job.study_instance_uid for job in queue.added] == ["1.2"]
    monkeypatch.undo()
    reconciler.poll(1e12, 1.0)
    assert [job.study_instance_uid for job in queue.added] == ["1.2", "1.1"]


def test_a_damaged_file_counts_as_an_image_so_that_its_job_names_it(archive: EmbeddedArchive) -> None:
    store(archive, "1.1", 1)
    store(archive, "1.1", 2)
    archive.files("1.1")[1].write_bytes(b"")
    queue = RecordingQueue()
    Reconciler(archive, queue, SETTINGS, "m").poll(1e12, 0.0)  # type: ignore[arg-type]
    assert [job.image_count for job in queue.added] == [2]


class Waiting:
    """A study 1.1 that is quiet from the start, and a reconciler that waits for what it lacks."""

    def __init__(self, archive: EmbeddedArchive, settings: StudySettings = SETTINGS) -> None:
        self.archive, self.queue, self.absent = archive, RecordingQueue(), (Role.ADC,)
        self.asked: list[int] = []
        """Numbers of images in the study, each time that it was asked what it lacks."""
        store(archive, "1.1", 1)
        (path,) = archive.files("1.1")
        os.utime(path, (1000.0, 1000.0))
        os.utime(path.parent, (1000.0, 1000.0))
        self.reconciler = Reconciler(archive, self.queue, settings, "m", awaited=self._awaited)  # type: ignore[arg-type]

    def _awaited(self, inputs: StudyInputs) -> tuple[Role, ...]:
        self.asked.append(len(inputs.paths))
        return self.absent

    def poll(self, *seconds: float) -> list[int]:
        """Poll at these times after the first image; return the numbers of images of the jobs since the start."""
        for each in seconds:
            self.reconciler.poll(1000.0 + each, 5000.0 + each)
        return [job.image_count for job in self.queue.added]

    def store(self, number: int, at_s: float) -> None:
        store(self.archive, "1.1", number)
        for path in (
            self.archive.path(InstanceKey("1.1", "1.1.1", f"1.1.1.{number}")),
            self.archive.files("1.1")[0].parent,
        ):
            os.utime(path, (1000.0 + at_s, 1000.0 + at_s))
        self.reconciler.touch("1.1")


def test_an_optional_series_is_waited_for_until_the_study_is_forced(archive: EmbeddedArchive) -> None:
    study = Waiting(archive)
    assert study.poll(0, 30, 31, 400, 3599) == []
    assert study.asked == [1], "headers are read once for what has come"
    assert study.poll(3600, 3601) == [1]
    assert study.asked == [1]


def test_a_study_has_its_job_once_the_optional_series_came_and_is_quiet(archive: EmbeddedArchive) -> None:
    study = Waiting(archive)
    study.poll(0, 31)
    study.store(2, at_s=100)
    assert study.poll(100.2, 129) == []
    study.absent = ()
    assert study.poll(131) == [2]
    assert study.asked == [1, 2]


def test_other_images_do_not_put_the_end_of_waiting_off(archive: EmbeddedArchive) -> None:
    study = Waiting(archive)
    study.poll(0, 31)
    study.store(2, at_s=3500)
    assert study.poll(3500.2, 3550, 3599) == []
    assert study.poll(3601) == [2]


def test_a_late_optional_series_makes_another_job(archive: EmbeddedArchive) -> None:
    study = Waiting(archive)
    study.poll(0, 31, 3600)
    study.store(2, at_s=5000)
    study.absent = ()
    assert study.poll(5000.2, 5031) == [1, 2]


def test_without_a_longest_wait_nothing_is_waited_for(archive: EmbeddedArchive) -> None:
    study = Waiting(archive, StudySettings(stable_after_s=30, force_after_s=0))
    assert study.poll(0, 31) == [1]


def test_a_study_that_waits_and_one_that_does_not_each_have_their_job_though_the_database_fails(
    archive: EmbeddedArchive,
) -> None:
    study = Waiting(archive)
    study.poll(0, 31)
    study.queue.broken = True
    with pytest.raises(ConnectionError):
        study.poll(3600)
    study.queue.broken = False
    assert study.poll(3601) == [1]
