"""A node's database from outside the node, whether it runs or not: for commands that look at jobs and change them."""

from collections.abc import Iterator
from contextlib import contextmanager

from plugin.database.embedded_postgres import has_cluster
from plugin.database.pool import Database, connected, database_url, running_database, set_up
from plugin.errors import DatabaseUnavailable
from plugin.node.lock import node_lock, running_node
from plugin.settings.sections import Settings


@contextmanager
def reached_database(settings: Settings) -> Iterator[Database]:
    """The database of the node of these settings.

    A running node's is shared. The embedded one of a node that does not run is started for the block, under the node's
    lock, so that no node starts beside it. Raises DatabaseUnavailable where no node has run yet, and SettingsWrong
    where one is just starting or belongs to another user.
    """
    node = running_node(settings.data_dir)
    if settings.database.url or node is not None:
        with connected(database_url(settings)) as pool:
            set_up(pool)
            yield Database(database_url(settings), pool, embedded=not settings.database.url)
        return
    if not has_cluster(settings.data_dir):
        raise DatabaseUnavailable(f"No node has run on {settings.data_dir} yet, so it has no jobs.")
    with node_lock(settings.data_dir), running_database(settings) as database:
        yield database
