import pytest
from pydicom.sr import _concepts_dict
from pydicom.sr.coding import Code

from dicom_seg import codes
from models.labels import LABELS

CODES = {name: value for name, value in vars(codes).items() if isinstance(value, Code)}
CONSTANTS = {name: code for name, code in CODES.items() if not code.scheme_designator.startswith("99")}
"""Those of a standard; a designator that begins with 99 is private (PS3.3 8.2)."""

ONLY_IN_TEMPLATES = {"C0034375": "qualitative evaluations"}
"""Concepts of UMLS that PS3.16 names in rows of a template alone (TID 1500), which pydicom's dictionaries leave out."""


def known_meanings(code: Code) -> set[str]:
    """Return the meanings of a code in pydicom's dictionaries, which are made from PS3.16."""
    if code.value in ONLY_IN_TEMPLATES:
        return {ONLY_IN_TEMPLATES[code.value]}
    scheme = _concepts_dict.concepts[code.scheme_designator]
    return {entry[code.value][0].lower() for entry in scheme.values() if code.value in entry}


def test_there_are_codes_to_check():
    assert len(CONSTANTS) > 25


@pytest.mark.parametrize("name", CONSTANTS)
def test_code_and_meaning_are_those_of_the_standard(name):
    code = CONSTANTS[name]
    meanings = known_meanings(code)
    # SNOMED's fully specified name carries its hierarchy in brackets; PS3.16 writes the plain term.
    plain = {meaning.removesuffix(" (observable entity)") for meaning in meanings}
    assert code.meaning.lower() in plain, (code, meanings)


def test_every_label_has_a_property_type():
    assert [codes.property_type(label) for label in LABELS] == [
        codes.ENHANCING_LESION,
        codes.LESION,
        codes.LESION,
        codes.NEOPLASM,
        codes.LESION,
        codes.NECROSIS,
        codes.RESECTION_CAVITY_TYPE,
    ]


def test_what_no_standard_has_is_private():
    assert {code for code in CODES.values() if code not in CONSTANTS.values()} == {codes.RESECTION_CAVITY_TYPE}
