"""Patient, study and equipment of a source go into every object as the bytes of its files, in the study's time zone."""

from dataclasses import replace
from datetime import timedelta, timezone
from io import BytesIO

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.config import disable_value_validation
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_seg.check import check
from dicom_seg.copied_elements import copied_tags, in_zone, time_zone
from dicom_seg.encode import encode
from models.labels import Role
from pipeline.scan import scan

FILES = (
    *("seg-t1ce.dcm", "seg-flair.dcm", "seg-adc.dcm", "sr-measurements.dcm", "sr-diameters.dcm"),
    *("capture-01.dcm", "capture-02.dcm"),
)


def raw(tag, vr, value):
    return RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


def rewrite(path, elements, syntax=ExplicitVRLittleEndian):
    """Write a file with elements whose bytes are given, in a transfer syntax."""
    header = dcmread(path)
    explicit = syntax != ImplicitVRLittleEndian
    body = BytesIO()
    # The elements before, between and behind those given, each as pydicom writes it.
    rest = {element.tag: element for element in header if element.tag not in {Tag(each.tag) for each in elements}}
    for tag in sorted([*rest, *(each.tag for each in elements)]):
        one = Dataset()
        given = next((each for each in elements if each.tag == tag), None)
        if given is not None:
            order = "big" if syntax == ExplicitVRBigEndian else "little"
            body.write(tag.group.to_bytes(2, order) + tag.element.to_bytes(2, order))
            long = not explicit or given.VR == "SQ"
            reserved = b"\0\0" if explicit and long else b""
            length = len(given.value).to_bytes(4 if long else 2, order)
            body.write((given.VR.encode() if explicit else b"") + reserved + length + given.value)
        else:
            one[tag] = rest[tag]
            dcmwrite(body, one, implicit_vr=not explicit, little_endian=syntax != ExplicitVRBigEndian)
    meta = Dataset()
    meta.file_meta = header.file_meta
    meta.file_meta.TransferSyntaxUID = syntax
    start = BytesIO()
    dcmwrite(start, meta, enforce_file_format=True)
    path.write_bytes(start.getvalue() + body.getvalue())


@pytest.fixture
def objects_of(make_result, with_everything, started):
    """Encode all objects of a study whose files hold the given elements; gives the result and the objects."""

    def encoded(elements=(), roles=tuple(Role), first=None, syntax=ExplicitVRLittleEndian, when=started):
        result = with_everything(make_result(character_set=None))
        sources = []
        for source in result.sources:
            paths = [instance.path for instance in source.series.instances]
            for number, path in enumerate(paths):
                given = first if first is not None and number == 0 else elements
                if source.role in roles:
                    rewrite(path, given, syntax)
            ((series,),) = (study.series for study in scan([paths[0].parent]).studies)
            sources.append(replace(source, series=series))
        result = replace(result, sources=tuple(sources))
        return result, encode(result, when)

    return encoded


def stored(content, tag):
    """Return the bytes of an element at the top of a file, found by reading the file without decoding it."""
    element = dcmread(BytesIO(content)).get_item(tag)
    assert element is None or isinstance(element, RawDataElement)
    return None if element is None else element.value or b""


NAME, PATIENT_ID, BIRTH_DATE, COMMENTS = 0x00100010, 0x00100020, 0x00100030, 0x00104000
STUDY_DESCRIPTION, CHARACTER_SET, INSTITUTION = 0x00081030, 0x00080005, 0x00080080


@pytest.mark.parametrize(
    ("character_set", "text", "syntax"),
    [
        (b"ISO_IR 192", "K\xf6hler^Ann".encode("latin-1"), ExplicitVRLittleEndian),
        (b"ISO_IR 192", "Köhler^Änn".encode(), ImplicitVRLittleEndian),
        (b"ISO_IR 100", "Köhler^Änn".encode(), ExplicitVRLittleEndian),
        (None, "K\xf6hler^Ann".encode("latin-1"), ExplicitVRLittleEndian),
        (b"GB18030 ", "Wang^XiaoDong=王^小东".encode("gb18030"), ExplicitVRLittleEndian),
        (b"\\ISO 2022 IR 87 ", "Yamada^Tarou=山田^太郎=やまだ^たろう".encode("iso2022_jp"), ExplicitVRBigEndian),
        (b"\\ISO 2022 IR 149 ", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", ExplicitVRLittleEndian),
        (b"ISO_IR 13 ", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3 ", ExplicitVRLittleEndian),
        (b"ISO_IR 999", b"Nobody^\xff\xfe\x80 ", ExplicitVRLittleEndian),
    ],
)
@pytest.mark.filterwarnings("ignore:Unknown encoding:UserWarning")  # as the test reads
def test_texts_keep_their_bytes_in_all_objects(character_set, text, syntax, objects_of):
    text += b" " * (len(text) % 2)
    given = [raw(tag, vr, text) for tag, vr in ((NAME, "PN"), (STUDY_DESCRIPTION, "LO"), (INSTITUTION, "LO"))]
    given += [raw(CHARACTER_SET, "CS", character_set)] if character_set else []
    result, objects = objects_of(given, syntax=syntax)
    assert [each.file_name for each in objects] == [*FILES]
    for each in objects:
        assert stored(each.content, NAME) == text
        assert stored(each.content, STUDY_DESCRIPTION) == text
        assert each.content.count(text) >= 3  # the institution stands in the item of the scanner
        found = dcmread(BytesIO(each.content)).get(CHARACTER_SET)  # pydicom decodes it to read the others
        values = [] if found is None else [found.value] if isinstance(found.value, str) else found.value
        assert "\\".join(values).encode() == (character_set or b"").strip()
    assert check(objects, result) == ()


def test_values_that_violate_their_vr_stay_where_they_identify_and_go_elsewhere(objects_of):
    given = [
        raw(NAME, "PN", b"A^" * 60),
        raw(PATIENT_ID, "LO", b"  ID with spaces and 90 characters" + b"x" * 56),
        raw(BIRTH_DATE, "DA", b"unknown "),
        raw(0x00101010, "AS", b"0Y"),
        raw(0x00101030, "DS", b"seventy "),
    ]
    result, objects = objects_of(given)
    for each in objects:
        for element in given[:3]:
            assert stored(each.content, element.tag) == element.value
        assert stored(each.content, 0x00101010) is None
        assert stored(each.content, 0x00101030) is None
    assert check(objects, result) == ()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_texts_inside_sequences_keep_their_bytes(syntax, objects_of):
    name = "K\xf6hl".encode("latin-1")
    vr = b"" if syntax == ImplicitVRLittleEndian else b"LO"
    element = b"\x10\x00\x20\x00" + vr + len(name).to_bytes(4 - len(vr), "little") + name
    item = b"\xfe\xff\x00\xe0" + len(element).to_bytes(4, "little") + element
    _, objects = objects_of([raw(CHARACTER_SET, "CS", b"ISO_IR 192"), raw(0x00101002, "SQ", item)], syntax=syntax)
    for each in objects:
        (found,) = dcmread(BytesIO(each.content))[0x00101002].value
        assert found.get_item(PATIENT_ID).value == name


def test_the_patient_comes_from_the_first_image_that_names_it(objects_of):
    nobody = [raw(NAME, "PN", b""), raw(PATIENT_ID, "LO", b""), raw(BIRTH_DATE, "DA", b"")]
    result, objects = objects_of([raw(PATIENT_ID, "LO", b"P-77")], first=nobody)
    for each in objects:
        assert stored(each.content, PATIENT_ID) == b"P-77"
    assert check(objects, result) == ()


def test_a_patient_of_other_bytes_is_noticed_by_the_check(objects_of):
    result, objects = objects_of([raw(CHARACTER_SET, "CS", b"ISO_IR 192"), raw(NAME, "PN", b"K\xf6hler^A")])
    dataset = dcmread(BytesIO(objects[0].content))
    with disable_value_validation():
        dataset[NAME] = raw(NAME, "PN", "K\ufffdhler^A".encode() + b" ")
        content = BytesIO()
        dcmwrite(content, dataset)
    altered = replace(objects[0], dataset=dcmread(BytesIO(content.getvalue())))
    (problem,) = check([altered, *objects[1:]], result)
    assert problem.startswith("seg-t1ce.dcm: its PatientName is not that of source series")


def test_a_text_of_our_own_beyond_ascii_is_noticed_by_the_check(make_result, started):
    result = make_result()
    model = replace(result.model, name="phantom")
    objects = encode(replace(result, model=model), started)
    with disable_value_validation():
        objects[0].dataset.SeriesDescription = "Gliom für ~"
    assert any("a text of our own is not plain ASCII: SeriesDescription" in each for each in check(objects, result))


@pytest.mark.parametrize(
    ("written", "minutes"),
    [
        *((b"+0530 ", 330), (b"-0330 ", -210), (b"+0000 ", 0), (b"+1400 ", 840), (b"-1200\0", -720), (b" +0100", 60)),
        *((b"Z ", None), (b"+2400 ", None), (b"+0560 ", None), (b"0530", None), (b"+05:30", None), (b"-0000 ", None)),
        *((b"-1300 ", None), (b"", None), (b"+1500 ", None)),
    ],
)
def test_only_offsets_of_the_standard_are_time_zones(written, minutes, started):
    dataset = Dataset()
    dataset[0x00080201] = raw(0x00080201, "SH", written)
    expected = None if minutes is None else timezone(timedelta(minutes=minutes))
    assert time_zone(dataset) == expected
    assert in_zone(started, dataset) == started
    assert in_zone(started, dataset).tzinfo == (expected or started.tzinfo)


def times_in(dataset):
    prefixes = ("Content", "Series", *(("",) if "DateOfSecondaryCapture" in dataset else ()))
    return {
        (
            dataset.get(f"{prefix}Date" if prefix else "DateOfSecondaryCapture"),
            dataset.get(f"{prefix}Time" if prefix else "TimeOfSecondaryCapture")[:6],
        )
        for prefix in prefixes
    }


def test_times_are_those_of_the_zone_of_the_study(objects_of, started):
    _, objects = objects_of([raw(0x00080201, "SH", b"+0530 ")])
    local = started.astimezone(timezone(timedelta(hours=5, minutes=30)))
    for each in objects:
        assert stored(each.content, 0x00080201) == b"+0530 "
        assert times_in(dcmread(BytesIO(each.content))) == {(f"{local:%Y%m%d}", f"{local:%H%M%S}")}


def test_a_zone_that_is_none_is_not_copied_and_times_stay_in_the_zone_of_the_host(objects_of, started):
    _, objects = objects_of([raw(0x00080201, "SH", b"+05:30")])
    for each in objects:
        assert stored(each.content, 0x00080201) is None
        assert times_in(dcmread(BytesIO(each.content))) == {(f"{started:%Y%m%d}", f"{started:%H%M%S}")}


def test_each_object_has_the_zone_of_its_own_series(objects_of, started):
    _, objects = objects_of([raw(0x00080201, "SH", b"+0530 ")], roles=(Role.ADC,))
    zones = {each.file_name: dcmread(BytesIO(each.content)).get("TimezoneOffsetFromUTC") for each in objects}
    assert {name for name, zone in zones.items() if zone} == {"seg-adc.dcm"}


def test_no_zone_leaves_a_moment_as_it_is(started):
    assert in_zone(started, Dataset()) is started
    assert time_zone(Dataset()) is None


def test_copied_are_patient_and_study_without_its_uid():
    tags = copied_tags()
    assert {Tag(NAME), Tag(0x00100021), Tag(0x00100024), Tag(0x00080050), Tag(0x00080201)} <= set(tags)
    assert Tag("StudyInstanceUID") not in tags
