"""What plugins keep in the database: nobody who reads the changes on misses one."""

import threading

import pytest

from plugin.database.pool import Database
from plugin.orthanc_api.enums import ChangeType, ResourceType
from plugin.orthanc_api.store import PluginStore, write_changes
from tests.support.node import wait_until

NEW = (ChangeType.NEW_INSTANCE, ResourceType.INSTANCE)


@pytest.fixture
def store(database: Database) -> PluginStore:
    return PluginStore(database.pool)


def test_a_change_is_not_seen_before_one_with_a_smaller_number(store: PluginStore) -> None:
    writer = threading.Thread(target=store.log, args=([(*NEW, "second")],))
    with store.pool.connection() as first:
        write_changes(first, [(*NEW, "first")])
        writer.start()

        def writer_waits_or_is_done() -> bool:
            with store.pool.connection() as connection:
                row = connection.execute(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'glionode_plugin_changes'::regclass"
                ).fetchone()
            return bool(row and row[0]) or not writer.is_alive()

        wait_until(writer_waits_or_is_done, "the other one comes to its turn")
        assert store.changes(0, 0).entries == ()
    writer.join()
    assert [(each.seq, each.resource) for each in store.changes(0, 0).entries] == [(1, "first"), (2, "second")]


def test_a_part_of_the_changes_tells_whether_more_follow(store: PluginStore) -> None:
    store.log([(*NEW, name) for name in "abcd"])
    parts = [store.changes(0, 3), store.changes(1, 3), store.changes(3, 3), store.changes(4, 3)]
    assert [("".join(each.resource for each in part.entries), part.last, part.done) for part in parts] == [
        ("abc", 3, False),
        ("bcd", 4, True),
        ("d", 4, True),
        ("", 4, True),
    ]
    store.clear_changes()
    assert (store.changes(0, 3).last, store.last_change().last) == (4, 4), "numbers are not given twice"


def test_deleting_a_resource_leaves_no_rows(store: PluginStore) -> None:
    for name in ("gone", "stays"):
        store.log([(*NEW, name)])
        store.put_metadata(name, 1024, "text")
        store.record_stable((*NEW, name))
    store.delete(["gone"])
    assert {each.resource for each in store.changes(0, 0).entries} == {"stays"}
    assert (store.metadata("gone"), store.metadata("stays")) == ({}, {1024: "text"})
    assert store.stable() == {"stays"}
    assert (store.delete_metadata("stays", 1024), store.delete_metadata("stays", 1024)) == (True, False)
