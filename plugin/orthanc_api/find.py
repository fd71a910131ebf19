"""Search the archive by values of elements, as Orthanc's /tools/find and /tools/lookup do."""

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR

from plugin.orthanc_api.embedded_host import EmbeddedHost
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.index import Resource
from plugin.orthanc_api.levels import BY_SINGULAR, IDENTIFYING_TAG, MAIN_TAGS, TOP_DOWN, Level
from plugin.orthanc_api.resource_json import describe
from plugin.orthanc_api.tags import Json, JsonFormat, NotDicom, element_text, parse_tag, read_data_set

_MODALITIES_IN_STUDY = 0x00080061
_MODALITY = 0x00080060
_RANGES = frozenset({"DA", "TM", "DT"})
Matcher = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class _Search:
    level: Level
    matchers: dict[int, Matcher]
    """By tag, for elements that must have a value; other elements match anything."""
    expand: bool
    form: JsonFormat
    since: int
    limit: int


def find(host: EmbeddedHost, query: Json) -> Json:
    """Return the identifiers of what matches, or whole resources with Expand. Raises OrthancException."""
    search = _parse(query)
    with host.index.lock:
        found = host.index.all(search.level)
    matching = [resource for resource in found if _matches(resource, search.matchers)]
    end = search.since + search.limit if search.limit else None
    part = matching[search.since : end]
    return [describe(resource, search.form) if search.expand else resource.identifier for resource in part]


def lookup(host: EmbeddedHost, identifier: str) -> list[Resource]:
    """Return the resources of any level that have a DICOM identifier: a PatientID or a UID."""
    return [
        resource
        for level in TOP_DOWN
        for resource in host.index.all(level)
        if resource.text(IDENTIFYING_TAG[level]) == identifier
    ]


def _parse(query: Json) -> _Search:
    if not isinstance(query, dict):
        raise failure(ErrorCode.BAD_REQUEST)
    level, values = query.get("Level"), query.get("Query")
    if not isinstance(level, str) or not isinstance(values, dict):
        raise failure(ErrorCode.BAD_REQUEST)
    if level not in BY_SINGULAR:
        raise failure(ErrorCode.PARAMETER_OUT_OF_RANGE)
    since, limit = query.get("Since", 0), query.get("Limit", 0)
    flags = [query.get(name, False) for name in ("Expand", "Full", "Short", "CaseSensitive")]
    if not all(isinstance(number, int) and number >= 0 for number in (since, limit)):
        raise failure(ErrorCode.BAD_REQUEST)
    if not all(isinstance(flag, bool) for flag in flags):
        raise failure(ErrorCode.BAD_REQUEST)
    expand, full, short, case_sensitive = flags
    form = JsonFormat.FULL if full else JsonFormat.SHORT if short else JsonFormat.HUMAN
    return _Search(BY_SINGULAR[level], _matchers(values, case_sensitive), expand, form, since, limit)


def _matchers(values: Mapping[str, Json], case_sensitive: bool) -> dict[int, Matcher]:
    matchers = {}
    for name, wanted in values.items():
        if not isinstance(wanted, str):
            raise failure(ErrorCode.BAD_REQUEST)
        tag = parse_tag(name)
        if tag is None:
            raise failure(ErrorCode.UNKNOWN_DICOM_TAG)
        if wanted not in ("", "*"):
            matchers[tag] = _matcher(tag, wanted, case_sensitive)
    return matchers


def _matcher(tag: int, wanted: str, case_sensitive: bool) -> Matcher:
    """Return the matcher of a value: a range, a pattern with wildcards, a list or a single value (PS3.4 C.2.2.2)."""
    try:
        is_range = dictionary_VR(tag) in _RANGES and "-" in wanted
    except KeyError:  # a tag that the dictionary does not have
        is_range = False
    if is_range:
        first, _, last = wanted.partition("-")
        return lambda text: bool(text) and (not first or text >= first) and (not last or text <= last)

    def fold(text: str) -> str:
        return text if case_sensitive else text.casefold()

    if "\\" in wanted:
        several = {fold(one) for one in wanted.split("\\")}
        return lambda text: fold(text) in several
    if "*" in wanted or "?" in wanted:
        pattern = re.compile(fnmatch.translate(fold(wanted).replace("[", "[[]")))
        return lambda text: pattern.match(fold(text)) is not None
    alone = fold(wanted)
    return lambda text: fold(text) == alone


def _matches(resource: Resource, matchers: Mapping[int, Matcher]) -> bool:
    others: dict[int, Matcher] = {}
    for tag, matches in matchers.items():
        if tag == _MODALITIES_IN_STUDY:
            study = next((each for each in resource.above() if each.level is Level.STUDY), resource)
            if not any(matches(series.text(_MODALITY)) for series in study.below(Level.SERIES)):
                return False
            continue
        holder = next((each for each in resource.above() if tag in MAIN_TAGS[each.level]), None)
        if holder is None:
            others[tag] = matches
        elif not matches(holder.text(tag)):
            return False
    return not others or _file_matches(resource, others)


def _file_matches(resource: Resource, matchers: Mapping[int, Matcher]) -> bool:
    """Match elements that the index does not hold, by one file of the resource, as Orthanc does."""
    instance = next(resource.below(Level.INSTANCE), None)
    if instance is None:
        return False
    try:
        data_set = read_data_set(instance.stored_file.path)
    except (NotDicom, OSError):
        return False
    return all(tag in data_set and matches(element_text(data_set[tag]) or "") for tag, matches in matchers.items())
