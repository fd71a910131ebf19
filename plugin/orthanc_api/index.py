"""Index the archive by Orthanc's four levels, in memory, from the headers of the files.

Texts of headers stay in this process's memory; the database, which other hosts may share, gets none of them.
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import header
from pipeline.guarded_stream import PARSER_FAILURES
from pipeline.header import read_header
from plugin.database.audit_log import Peer
from plugin.orthanc_api.enums import InstanceOrigin
from plugin.orthanc_api.levels import IDENTIFYING_TAG, MAIN_TAGS, TOP_DOWN, Level, OrthancIds, identifiers
from plugin.orthanc_api.tags import NotDicom, element_text, read_with_end


@dataclass(frozen=True, slots=True)
class Reception:
    """How an instance was received."""

    origin: int = InstanceOrigin.UNKNOWN
    sender: Peer = field(default_factory=lambda: Peer("", ""))


@dataclass(frozen=True, slots=True)
class InstanceFile:
    """Properties of an instance's file."""

    path: Path
    size_bytes: int
    received: float
    """In seconds since 1970."""
    transfer_syntax_uid: str
    sop_class_uid: str
    pixel_data_offset: int | None


@dataclass(slots=True)
class Resource:
    """A patient, study, series or instance. Only the index changes it."""

    level: Level
    identifier: str
    parent: "Resource | None"
    main_texts: dict[int, str]
    last_update: float
    reception: Reception
    file: InstanceFile | None = None
    """None but for instances."""
    stable: bool = False
    children: dict[str, "Resource"] = field(default_factory=dict)
    """By identifier, in order of arrival."""

    def text(self, tag: int) -> str:
        """Return the text of a main element; empty where it has none."""
        return self.main_texts.get(tag, "")

    def above(self) -> "Iterator[Resource]":
        """Yield the resource and its ancestors, up to the patient."""
        found: Resource | None = self
        while found is not None:
            yield found
            found = found.parent

    def below(self, level: Level) -> "Iterator[Resource]":
        """Yield its descendants of a level; itself where it has that level."""
        if self.level is level:
            yield self
        for child in list(self.children.values()):
            yield from child.below(level)

    @property
    def stored_file(self) -> InstanceFile:
        """The file of an instance."""
        assert self.file is not None
        return self.file


@dataclass(frozen=True, slots=True)
class AddedInstance:
    """An instance that is new to the index."""

    instance: Resource
    new: tuple[Resource, ...]
    """The instance and the ancestors that are new with it, from the bottom up."""


class OrthancIndex:
    """The resources of the archive. Thread-safe."""

    def __init__(self) -> None:
        self._levels: dict[Level, dict[str, Resource]] = {level: {} for level in Level}
        self._by_path: dict[Path, str] = {}
        self._changed: dict[str, Resource] = {}
        """Patients, studies and series that are not stable."""
        self.lock = threading.RLock()
        """Held during changes; hold it while reading several resources."""

    def __contains__(self, path: Path) -> bool:
        return path in self._by_path

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of all instances."""
        with self.lock:
            return tuple(self._by_path)

    def add(self, path: Path, reception: Reception) -> AddedInstance | None:
        """Index a file; None where it is indexed already. Raises NotDicom, and OSError for a missing file."""
        if path in self._by_path:
            return None
        texts, facts = _read(path)
        ids = identifiers(*(texts.get(IDENTIFYING_TAG[level], "") for level in TOP_DOWN))
        with self.lock:
            if path in self._by_path or ids.instance in self._levels[Level.INSTANCE]:
                return None
            added = self._insert(ids, texts, facts, reception)
            self._by_path[path] = ids.instance
            for each in reversed(list(added.instance.above())):
                each.last_update = max(each.last_update, facts.received)
                if each.level is not Level.INSTANCE:
                    self.mark_changed(each)
        return added

    def mark_changed(self, resource: Resource) -> None:
        """Mark a resource as not stable."""
        with self.lock:
            resource.stable = False
            self._changed[resource.identifier] = resource

    def mark_stable(self, resource: Resource) -> None:
        """Mark a resource as stable."""
        with self.lock:
            resource.stable = True
            self._changed.pop(resource.identifier, None)

    def mark_quiet_stable(self, now: float, stable_after_s: float) -> list[Resource]:
        """Mark as stable what got nothing for so long at `now` (seconds since 1970), and return it, patients first.

        What bears a time that is still to come, because the clock was set back since, counts as changed now.
        """
        with self.lock:
            for each in self._changed.values():
                each.last_update = min(each.last_update, now)
            quiet = [each for each in self._changed.values() if now - each.last_update >= stable_after_s]
            for each in quiet:
                self.mark_stable(each)
        return quiet

    def _insert(
        self, ids: OrthancIds, texts: dict[int, str], facts: InstanceFile, reception: Reception
    ) -> AddedInstance:
        parent: Resource | None = None
        new = []
        for level in TOP_DOWN:
            found = self._levels[level].get(ids[level.number])
            if found is None:
                main = {tag: texts[tag] for tag in MAIN_TAGS[level] if tag in texts}
                file = facts if level is Level.INSTANCE else None
                found = Resource(level, ids[level.number], parent, main, facts.received, reception, file)
                self._levels[level][found.identifier] = found
                if parent is not None:
                    parent.children[found.identifier] = found
                new.append(found)
            parent = found
        assert parent is not None
        return AddedInstance(parent, tuple(reversed(new)))

    def remove(self, instances: Iterable[Resource]) -> tuple[Resource, ...]:
        """Remove instances and ancestors left empty; return all that was removed, from the top down."""
        gone: set[str] = set()
        removed: list[Resource] = []
        with self.lock:
            for instance in instances:
                self._by_path.pop(instance.stored_file.path, None)
                for each in instance.above():
                    if each.identifier in gone or any(child not in gone for child in each.children):
                        break
                    gone.add(each.identifier)
                    removed.append(each)
                    self._levels[each.level].pop(each.identifier, None)
                    self._changed.pop(each.identifier, None)
            for each in removed:
                if each.parent is not None:
                    each.parent.children.pop(each.identifier, None)
        return tuple(sorted(removed, key=lambda each: each.level.number))

    def find(self, level: Level, identifier: str) -> Resource | None:
        """Return a resource; None where there is none."""
        return self._levels[level].get(identifier)

    def all(self, level: Level) -> tuple[Resource, ...]:
        """Return the resources of a level, in order of arrival."""
        with self.lock:
            return tuple(self._levels[level].values())

    def parent_identifiers(self) -> list[str]:
        """Return the identifiers of patients, studies and series."""
        return [each.identifier for level in (Level.PATIENT, Level.STUDY, Level.SERIES) for each in self.all(level)]

    def at(self, path: Path) -> Resource | None:
        """Return the instance of a file; None where it is not indexed."""
        with self.lock:
            identifier = self._by_path.get(path)
            return None if identifier is None else self._levels[Level.INSTANCE].get(identifier)


def _read(path: Path) -> tuple[dict[int, str], InstanceFile]:
    stat = path.stat()
    try:
        read_header(path, ())  # refuses deflate bombs, which pydicom would inflate
    except header.NotDicom as exc:
        raise NotDicom(str(exc)) from exc
    data_set, end = read_with_end(path)
    texts: dict[int, str] = {}
    for tag in sorted({tag for tags in MAIN_TAGS.values() for tag in tags}):
        try:
            text = element_text(data_set[tag]) if tag in data_set else None
        except PARSER_FAILURES as exc:
            raise NotDicom(f"an element does not parse ({type(exc).__name__})") from exc
        if text is not None:
            texts[tag] = text
    facts = InstanceFile(
        path,
        stat.st_size,
        stat.st_mtime,
        str(data_set.file_meta.get("TransferSyntaxUID", "")),
        str(data_set.get("SOPClassUID", "")),
        end if end < stat.st_size else None,
    )
    return texts, facts
