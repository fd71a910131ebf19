"""An index of the archive for tests without a database: it knows the digests of what came."""

from collections.abc import Collection

from plugin.archive.store import IndexedInstance, InstanceKey, StoredInstance


class MemoryIndex:
    """Keeps what it is told in memory."""

    def __init__(self) -> None:
        self.digests: dict[InstanceKey, str] = {}

    def note(self, stored: StoredInstance) -> None:
        self.digests[stored.key] = stored.sha256

    def received_sha256(self, key: InstanceKey) -> str:
        return self.digests.get(key, "")

    def find(self, sop_instance_uids: Collection[str]) -> list[IndexedInstance] | None:
        return None
