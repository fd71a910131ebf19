"""Rows of the outbox: what a new run of a job changes in them."""

from pathlib import Path

import pytest

from models.package import IntendedUse
from plugin.database.pool import Database
from plugin.jobs import outbox
from plugin.jobs.outbox import OutgoingObject
from plugin.settings.destinations import DestinationSettings
from tests.support.node import insert_job, new_study_uid, query

PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)


@pytest.mark.parametrize("state", ["sent", "committed"])
def test_what_a_destination_has_is_not_queued_again_by_another_run(state: str, database: Database) -> None:
    insert_job(database, "first", new_study_uid())
    with database.pool.connection() as connection:
        for sha256 in ("", "aa", "aa", "bb"):
            outbox.put(connection, "first", [OutgoingObject("1.9", Path("x"), sha256)], (PACS,), IntendedUse.RESEARCH)
            connection.execute(
                "UPDATE glionode_outbox SET state = %s WHERE state = 'queued' AND attempts = 0", (state,)
            )
            connection.execute("UPDATE glionode_outbox SET attempts = 1")
            assert outbox.due(connection, "pacs", 9) == ()
    assert query(database, "SELECT state, attempts FROM glionode_outbox") == [(state, 1)]


def test_objects_that_go_alone_take_no_place_of_others(database: Database) -> None:
    insert_job(database, "first", new_study_uid())
    with database.pool.connection() as connection:
        made = [OutgoingObject(f"1.{number}", Path("x")) for number in range(5)]
        outbox.put(connection, "first", made, (PACS,), IntendedUse.RESEARCH)
        outbox.send_alone(connection, "pacs", ["1.0", "1.1", "1.2"])
        due = [each.sop_instance_uid for each in outbox.due(connection, "pacs", 2)]
        assert due == ["1.3", "1.4"], "though the others were there before, and as many as are taken at once"
        connection.execute("UPDATE glionode_outbox SET state = 'sent' WHERE NOT alone")
        assert len(outbox.due(connection, "pacs", 2)) == 1
