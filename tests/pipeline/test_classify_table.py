"""A list of descriptions is classified as text and as TSV."""

import csv
import io

import pytest

from models.labels import Role
from pipeline.classify_table import as_tsv, classify_text
from pipeline.rules import load_rules


@pytest.fixture(scope="module")
def rules():
    return load_rules()


def test_one_description_a_line(rules):
    found = classify_text(" t1_mprage_KM \n\nADC\nSAG\n", rules)
    assert [(one.description, one.role) for one in found] == [
        (" t1_mprage_KM ", Role.T1CE),
        ("ADC", Role.ADC),
        ("SAG", None),
    ]


def test_header_columns_add_evidence(rules):
    head = "ImageType\tdescription\tEchoTime\tRepetitionTime\tInversionTime\tScanningSequence\n"
    rows = (
        "ORIGINAL\\PRIMARY\\M\tt2_tra\t93\t9000\t2500\tSE\\IR\n"
        "DERIVED\\PRIMARY\\DIFFUSION\\ADC\tep2d_diff\t87\t6200\t\tEP\n"
        "DERIVED\\SECONDARY\\SUB\tt1_tra_KM\t9\t550\t\tSE\n"
        "\tt2_tra\t\t\tnonsense\t\n"
    )
    assert [one.role for one in classify_text(head + rows, rules)] == [Role.FLAIR, Role.ADC, None, Role.T2]


def test_a_contrast_column_is_evidence_only_if_it_differs(rules):
    head = "description\tContrastBolusAgent\tEchoTime\tRepetitionTime\n"
    some = head + "t1_mprage\tDotarem\t3\t2000\nt1_mprage\t\t3\t2000\n"
    assert [one.role for one in classify_text(some, rules)] == [Role.T1CE, Role.T1]
    every = head + "t1_mprage\tDotarem\t3\t2000\nAX FLAIR\tDotarem\t90\t9000\n"
    assert [one.role for one in classify_text(every, rules)] == [Role.T1, Role.FLAIR]


def test_the_answer_is_a_table(rules):
    text = as_tsv(classify_text("t1_mprage_KM\nt1_se_KM_SUB\n", rules))
    first, second = csv.DictReader(io.StringIO(text), delimiter="\t")
    assert (first["description"], first["role"]) == ("t1_mprage_KM", "T1CE")
    assert float(first["confidence"]) > 0.9
    assert "description: contrast" in first["why"]
    assert (second["role"], "description: subtraction (none)" in second["why"]) == ("none", True)


def test_nothing_gives_an_empty_table(rules):
    assert as_tsv(classify_text("", rules)) == "description\trole\tconfidence\twhy\n"
