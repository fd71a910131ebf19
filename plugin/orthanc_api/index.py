"""What the archive holds, as Orthanc's four levels: in memory only, made of the files' headers. Knows no JSON.

Texts of headers stay in this process's memory: the database, which other hosts may share, gets none of them.
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
from plugin.orthanc_api.tags import NotDicom, read_with_end, text_of


@dataclass(frozen=True, slots=True)
class Came:
    """How an instance came."""

    origin: int = InstanceOrigin.UNKNOWN
    sender: Peer = field(default_factory=lambda: Peer("", ""))


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What of an instance's file is shown beside its elements."""

    path: Path
    size_bytes: int
    received: float
    """Seconds since 1970."""
    transfer_syntax_uid: str
    sop_class_uid: str
    pixel_data_offset: int | None


@dataclass(slots=True)
class Resource:
    """A patient, study, series or instance; changed by the index alone."""

    level: Level
    identifier: str
    parent: "Resource | None"
    main_texts: dict[int, str]
    last_update: float
    came: Came
    file: FileFacts | None = None
    """Of an instance."""
    stable: bool = False
    children: dict[str, "Resource"] = field(default_factory=dict)
    """By identifier, in the order in which they came."""

    def text(self, tag: int) -> str:
        """A main element's text; empty where it has none."""
        return self.main_texts.get(tag, "")

    def above(self) -> "Iterator[Resource]":
        """Itself and what it belongs to, up to the patient."""
        found: Resource | None = self
        while found is not None:
            yield found
            found = found.parent

    def below(self, level: Level) -> "Iterator[Resource]":
        """What of a level belongs to it, itself included."""
        if self.level is level:
            yield self
        for child in list(self.children.values()):
            yield from child.below(level)

    @property
    def at_hand(self) -> FileFacts:
        """Of the file; for instances only."""
        assert self.file is not None
        return self.file


@dataclass(frozen=True, slots=True)
class Added:
    """An instance that the index did not have."""

    instance: Resource
    new: tuple[Resource, ...]
    """It and what came with it, from the bottom up."""


class OrthancIndex:
    """The resources of the archive. Thread-safe."""

    def __init__(self) -> None:
        self._levels: dict[Level, dict[str, Resource]] = {level: {} for level in Level}
        self._by_path: dict[Path, str] = {}
        self._unsettled: dict[str, Resource] = {}
        """Patients, studies and series that are not stable."""
        self.lock = threading.RLock()
        """Held while it changes; whoever walks over several resources holds it, too."""

    def __contains__(self, path: Path) -> bool:
        return path in self._by_path

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of all instances."""
        with self.lock:
            return tuple(self._by_path)

    def add(self, path: Path, came: Came) -> Added | None:
        """Take in a file; None where it is known. Raises NotDicom, and OSError for a file that is not there."""
        if path in self._by_path:
            return None
        texts, facts = _read(path)
        ids = identifiers(*(texts.get(IDENTIFYING_TAG[level], "") for level in TOP_DOWN))
        with self.lock:
            if path in self._by_path or ids.instance in self._levels[Level.INSTANCE]:
                return None
            added = self._insert(ids, texts, facts, came)
            self._by_path[path] = ids.instance
            for each in reversed(list(added.instance.above())):
                each.last_update = max(each.last_update, facts.received)
                if each.level is not Level.INSTANCE:
                    self.unsettle(each)
        return added

    def unsettle(self, resource: Resource) -> None:
        """It is not stable, or not any more."""
        with self.lock:
            resource.stable = False
            self._unsettled[resource.identifier] = resource

    def settle(self, resource: Resource) -> None:
        """It is stable."""
        with self.lock:
            resource.stable = True
            self._unsettled.pop(resource.identifier, None)

    def settle_quiet(self, latest: float) -> list[Resource]:
        """Settle what has got nothing after `latest`, seconds since 1970, and give it, patients before studies."""
        with self.lock:
            quiet = [each for each in self._unsettled.values() if each.last_update <= latest]
            for each in quiet:
                self.settle(each)
        return quiet

    def _insert(self, ids: OrthancIds, texts: dict[int, str], facts: FileFacts, came: Came) -> Added:
        parent: Resource | None = None
        new = []
        for level in TOP_DOWN:
            found = self._levels[level].get(ids.of(level))
            if found is None:
                main = {tag: texts[tag] for tag in MAIN_TAGS[level] if tag in texts}
                file = facts if level is Level.INSTANCE else None
                found = Resource(level, ids.of(level), parent, main, facts.received, came, file)
                self._levels[level][found.identifier] = found
                if parent is not None:
                    parent.children[found.identifier] = found
                new.append(found)
            parent = found
        assert parent is not None
        return Added(parent, tuple(reversed(new)))

    def remove(self, instances: Iterable[Resource]) -> tuple[Resource, ...]:
        """Forget instances, and what has nothing left below it; gives all that is gone, from the top down."""
        gone: set[str] = set()
        removed: list[Resource] = []
        with self.lock:
            for instance in instances:
                self._by_path.pop(instance.at_hand.path, None)
                for each in instance.above():
                    if each.identifier in gone or any(child not in gone for child in each.children):
                        break
                    gone.add(each.identifier)
                    removed.append(each)
                    self._levels[each.level].pop(each.identifier, None)
                    self._unsettled.pop(each.identifier, None)
            for each in removed:
                if each.parent is not None:
                    each.parent.children.pop(each.identifier, None)
        return tuple(sorted(removed, key=lambda each: each.level.number))

    def find(self, level: Level, identifier: str) -> Resource | None:
        """A resource; None where it is not there."""
        return self._levels[level].get(identifier)

    def all(self, level: Level) -> tuple[Resource, ...]:
        """The resources of a level, in the order in which they came."""
        with self.lock:
            return tuple(self._levels[level].values())

    def identifiers_above(self) -> list[str]:
        """Of patients, studies and series."""
        return [each.identifier for level in (Level.PATIENT, Level.STUDY, Level.SERIES) for each in self.all(level)]

    def at(self, path: Path) -> Resource | None:
        """The instance of a file."""
        with self.lock:
            identifier = self._by_path.get(path)
            return None if identifier is None else self._levels[Level.INSTANCE].get(identifier)


def _read(path: Path) -> tuple[dict[int, str], FileFacts]:
    stat = path.stat()
    try:
        read_header(path, ())  # says no to what would grow without bound as it is inflated; pydicom says yes
    except header.NotDicom as exc:
        raise NotDicom(str(exc)) from exc
    data_set, end = read_with_end(path)
    texts: dict[int, str] = {}
    for tag in sorted({tag for tags in MAIN_TAGS.values() for tag in tags}):
        try:
            text = text_of(data_set[tag]) if tag in data_set else None
        except PARSER_FAILURES as exc:
            raise NotDicom(f"an element of it does not parse ({type(exc).__name__})") from exc
        if text is not None:
            texts[tag] = text
    facts = FileFacts(
        path,
        stat.st_size,
        stat.st_mtime,
        str(data_set.file_meta.get("TransferSyntaxUID", "")),
        str(data_set.get("SOPClassUID", "")),
        end if end < stat.st_size else None,
    )
    return texts, facts
