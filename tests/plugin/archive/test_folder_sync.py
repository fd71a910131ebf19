"""One sync serves all threads that wait for it, and none that called after it began."""

import threading
from pathlib import Path

import pytest

import plugin.archive.folder_sync
from plugin.archive.folder_sync import FolderSync
from tests.support.node import wait_until


def test_calls_during_a_sync_share_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, count = threading.Semaphore(0), threading.Semaphore(0), []

    def held(folder: Path) -> None:
        count.append(folder)
        begun.release()
        assert go_on.acquire(timeout=40)

    monkeypatch.setattr(plugin.archive.folder_sync, "sync_folder", held)
    syncs, ended = FolderSync(), []

    def sync(number: int) -> None:
        syncs.sync(tmp_path)
        ended.append(number)

    first = threading.Thread(target=sync, args=(1,))
    first.start()
    assert begun.acquire(timeout=40)
    others = [threading.Thread(target=sync, args=(number,)) for number in (2, 3, 4)]
    for other in others:
        other.start()
    wait_until(lambda: syncs._folders[tmp_path].waiting == 4, "all wait")
    go_on.release()
    first.join(40)
    assert begun.acquire(timeout=40)
    assert ended == [1]  # what the others linked may have come after the first sync began
    go_on.release()
    for other in others:
        other.join(40)
    assert sorted(ended) == [1, 2, 3, 4]
    assert len(count) == 2
    assert syncs._folders == {}


def test_a_failing_sync_raises_in_its_caller_and_leaves_no_state(tmp_path: Path) -> None:
    syncs = FolderSync()
    with pytest.raises(FileNotFoundError):
        syncs.sync(tmp_path / "absent")
    syncs.sync(tmp_path)
    assert syncs._folders == {}
