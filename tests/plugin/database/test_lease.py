"""Leases: who has one, when another takes it over, and that the one before has stopped by then."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import psycopg
import pytest

from plugin.database import lease as leases
from plugin.database.lease import LEASE_S, OWNER_STOPS_S, Lease, acquire, current_lease, forget_leases, renewing
from plugin.database.pool import Connection, Database
from tests.support.node import query, wait_until

NAME = "deliver pacs"
STOP = threading.Event()
"""Is never set."""


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with psycopg.connect(database.url, autocommit=True) as opened:
        yield opened


@pytest.fixture
def other(database: Database) -> Iterator[Connection]:
    """The session of another process."""
    with psycopg.connect(database.url, autocommit=True) as opened:
        yield opened


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.02)
    monkeypatch.setattr(leases, "_LOOK_S", 0.01)


def run_out(database: Database) -> None:
    query(database, "UPDATE glionode_leases SET expires_at = now() - interval '1 s'")


@contextmanager
def owning(connection: Connection, url: str, lost: threading.Event) -> Iterator[Lease]:
    lease = acquire(connection, NAME, STOP)
    assert lease is not None
    with renewing(url, lease, lost.set):
        yield lease


def test_a_lease_is_taken_over_when_it_has_run_out_and_not_before(
    database: Database, connection: Connection, other: Connection
) -> None:
    assert acquire(connection, NAME, STOP) is not None
    assert acquire(other, NAME, STOP) is None
    assert acquire(other, "deliver another", STOP) is not None
    ((left,),) = query(
        database, "SELECT extract(epoch FROM expires_at - now())::float FROM glionode_leases WHERE name = %s", NAME
    )
    assert OWNER_STOPS_S < left <= LEASE_S
    run_out(database)
    assert acquire(other, NAME, STOP) is not None


def test_a_lease_that_runs_out_when_a_wrong_clock_says_lasts_one_term(
    database: Database, connection: Connection, other: Connection
) -> None:
    assert acquire(connection, NAME, STOP) is not None
    query(database, "UPDATE glionode_leases SET owner = 'another-host', expires_at = now() + interval '1 day'")
    assert acquire(other, NAME, STOP) is None
    left = query(database, "SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM glionode_leases")
    assert float(left[0][0]) <= LEASE_S


def test_an_owner_stops_long_before_another_may_begin(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = acquire(connection, NAME, STOP)
    assert lease is not None
    assert (lease.is_set(), lease.wait(0)) == (False, False)
    now = time.monotonic()
    # Its process stood still meanwhile.
    monkeypatch.setattr(leases, "time", SimpleNamespace(monotonic=lambda: now + LEASE_S - 5))
    assert (lease.is_set(), lease.wait(0)) == (True, True)


def test_an_owner_that_reaches_the_database_keeps_its_lease(
    database: Database, connection: Connection, quickly: None
) -> None:
    with owning(connection, database.url, lost := threading.Event()) as lease:
        assert current_lease() is lease
        run_out(database)
        wait_until(
            lambda: query(database, "SELECT 1 FROM glionode_leases WHERE expires_at > now() + interval '9 s'"),
            "it is renewed",
        )
        query(database, "DELETE FROM glionode_leases")
        wait_until(lambda: query(database, "SELECT 1 FROM glionode_leases"), "it is in a restored database, too")
        assert (lease.is_set(), lost.is_set()) == (False, False)
    assert current_lease() is None
    assert query(database, "SELECT name FROM glionode_leases") == [], "it was given back"


def test_an_owner_that_does_not_reach_the_database_stops(
    connection: Connection, quickly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "OWNER_STOPS_S", 0.3)
    ours, peers = socket.socketpair()
    with ours, peers, owning(connection, "host=127.0.0.1 port=1", lost := threading.Event()) as lease:
        lease.breaks_off(ours)
        wait_until(lost.is_set, "the owner is told")
        assert lease.is_set()
        assert peers.recv(1) == b"", "what it was sending is broken off"


def test_an_owner_whose_lease_was_taken_stops_and_records_nothing_more(
    database: Database, connection: Connection, other: Connection, quickly: None
) -> None:
    with owning(connection, database.url, lost := threading.Event()) as lease:
        for _ in range(1000):  # it is renewed all the time
            run_out(database)
            if acquire(other, NAME, STOP) is not None:
                break
        wait_until(lost.is_set, "the owner is told")
        assert lease.is_set()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert len(query(database, "SELECT 1 FROM glionode_leases")) == 1, "that of the other one stays"


def test_the_lease_of_a_process_of_this_host_that_was_killed_is_free_at_once(
    database: Database, connection: Connection
) -> None:
    code = (
        "import os, sys, threading, psycopg\n"
        "from plugin.database.lease import acquire\n"
        "connection = psycopg.connect(sys.argv[1], autocommit=True)\n"
        "assert acquire(connection, sys.argv[2], threading.Event())\n"
        "print('has it', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, database.url, NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"has it\n"
        assert acquire(connection, NAME, STOP) is None
        process.kill()
        process.wait()
        assert acquire(connection, NAME, STOP) is not None


def test_an_owner_on_another_host_is_not_taken_for_dead(database: Database, connection: Connection) -> None:
    assert acquire(connection, NAME, STOP) is not None
    query(database, "UPDATE glionode_leases SET owner = 'elsewhere/boot/1-1/x'")
    assert acquire(connection, NAME, STOP) is None
    query(database, "UPDATE glionode_leases SET owner = 'no owner of ours'")
    assert acquire(connection, NAME, STOP) is None
    forget_leases(database.pool)
    assert acquire(connection, NAME, STOP) is not None


def test_an_archive_goes_on_until_another_takes_over(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = acquire(connection, NAME, STOP, until_taken=True)
    assert lease is not None
    now = time.monotonic()
    monkeypatch.setattr(leases, "time", SimpleNamespace(monotonic=lambda: now + 10 * LEASE_S))
    assert not lease.is_set()
