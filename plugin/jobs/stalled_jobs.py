"""Entries of procrastinate's queue whose workers are gone. Its asynchronous side alone knows them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from procrastinate import PsycopgConnector
from procrastinate.jobs import Status
from procrastinate.manager import JobManager


def stalled_jobs(url: str, queue: str, seconds_since_heartbeat: float) -> list[tuple[str, int]]:
    """Keys and queue entries of jobs in the hands of workers without a heartbeat for so long, or without a row."""
    return asyncio.run(_stalled(url, queue, seconds_since_heartbeat))


def end_entry(url: str, queue_id: int) -> None:
    """Take an entry out of the queue, whoever had it in hand."""
    asyncio.run(_end(url, queue_id))


@asynccontextmanager
async def _manager(url: str) -> AsyncIterator[JobManager]:
    connector = PsycopgConnector(conninfo=url, min_size=1, max_size=1)
    await connector.open_async()
    try:
        yield JobManager(connector)
    finally:
        await connector.close_async()


async def _stalled(url: str, queue: str, seconds_since_heartbeat: float) -> list[tuple[str, int]]:
    async with _manager(url) as manager:
        stalled = await manager.get_stalled_jobs(queue=queue, seconds_since_heartbeat=seconds_since_heartbeat)
        return [(str(job.task_kwargs["key"]), job.id) for job in stalled if job.id is not None]


async def _end(url: str, queue_id: int) -> None:
    async with _manager(url) as manager:
        await manager.finish_job_by_id_async(queue_id, Status.FAILED, delete_job=True)
