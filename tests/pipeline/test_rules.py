"""A site can change the rules, and mistakes in its file are named with their place."""

import pytest

from models.labels import Role
from pipeline.classify import classify_description
from pipeline.errors import SettingsWrong
from pipeline.rules import load_rules
from pipeline.wording import normalised


@pytest.fixture
def site(tmp_path):
    """Write a site's own rules and load them over the bundled ones."""

    def load(text: str):
        path = tmp_path / "site.toml"
        path.write_text("format = 1\n" + text, encoding="utf-8")
        return load_rules(path)

    return load


@pytest.mark.parametrize(
    ("description", "seen"),
    [
        ("  t2_tirm_tra_dark-fluid ", "t2 tirm tra dark-fluid"),
        ("T1 Post-Contrâst", "t1 post-contrast"),
        ("eADC", "e adc"),
        ("AxT1,SE;x", "ax t1 se x"),
    ],
)
def test_descriptions_are_normalised(description, seen):
    assert normalised(description) == seen


def test_a_site_adds_a_term(site):
    assert classify_description("ZAUBER", load_rules()).role is None
    rules = site('[[term]]\nname = "house name"\nwords = ["zauber"]\nweights = { FLAIR = 12.0 }\n')
    assert classify_description("AX_ZAUBER", rules).role is Role.FLAIR


def test_a_site_adds_words_that_are_glued(site):
    assert classify_description("T1ZAUBERGD", load_rules()).role is None
    rules = site('[vocabulary]\nnames = ["zauber"]\n')
    assert classify_description("T1ZAUBERGD", rules).role is Role.T1CE
    assert classify_description("T1MPRAGEGD", rules).role is Role.T1CE


def test_a_site_may_name_a_glued_word_as_it_is_written(site):
    rules = site('[[mark]]\nname = "house name"\nwords = ["t1mpragegd"]\neffect = "none"\n')
    assert classify_description("T1MPRAGEGD", rules).role is None


def test_a_site_replaces_a_rule_by_its_name(site):
    rules = site('[[mark]]\nname = "subtraction"\nwords = ["nevermatches"]\neffect = "none"\n')
    assert classify_description("T1 KM SUB", rules).role is Role.T1CE
    assert len(rules.marks) == len(load_rules().marks)


def test_a_site_drops_a_rule(site):
    rules = site('disable = ["subtraction"]\n')
    assert classify_description("T1 KM SUB", rules).role is Role.T1CE


def test_a_site_asks_for_more_confidence(site):
    assert classify_description("AX T1", load_rules()).role is Role.T1
    assert classify_description("AX T1", site("[settings]\nleast_confidence = 0.9\n")).role is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[term]]\nname = "x"\nwords = ["("]\nweights = { T1 = 1 }\n', "rule 'x', line 3: missing"),
        ('[[term]]\nname = "x"\nwords = ["a"]\nweights = { T9 = 1 }\n', "rule 'x', line 3.*T9"),
        ('[[term]]\nname = "x"\nwords = ["a"]\nweights = { T1 = "much" }\n', "rule 'x'"),
        ('[[term]]\nname = "x"\nword = ["a"]\nweights = { T1 = 1 }\n', "unknown key 'word'"),
        ('[[term]]\nname = "x"\nweights = { T1 = 1 }\n', "`words` or `pattern`"),
        ('[[term]]\nname = "x"\nwords = ["a"]\n', "`weights`"),
        ('[[mark]]\nname = "x"\nwords = ["a"]\neffect = "explode"\n', "explode"),
        ('[[header]]\nname = "x"\nwhen = { shoe_size = [1, 2] }\nweights = { T1 = 1 }\n', "shoe_size"),
        ('[[header]]\nname = "x"\nwhen = { images = [1] }\nweights = { T1 = 1 }\n', "images takes a range"),
        ('[[header]]\nname = "x"\nwhen_not = { images = [1, 2] }\nweights = { T1 = 1 }\n', "words only"),
        ('[[term]]\nwords = ["a"]\nweights = { T1 = 1 }\n', "no name"),
        ('[[term]]\nname = "x"\nwords = ["a"]\neffect = "none"\n', "unknown key 'effect'"),
        ('[[mark]]\nname = "x"\nwords = ["a"]\n', "needs `effect`"),
        (
            '[[header]]\nname = "x"\nwhen = { modality = "MR" }\nweights = { T1 = 1 }\n',
            "modality takes a list of words",
        ),
        ("disable = 3\n", "list of names"),
        ("settings = 3\n", "are numbers"),
        ("[settings]\nnon = 3\n", "unknown key 'non'"),
        ('[settings]\nnone = "three"\n', "none"),
        ('disable = ["nothing like it"]\n', "nothing like it"),
        ("[rules]\n", "unknown key 'rules'"),
        ("term = 3\n", r"\[\[term\]\]"),
        ('[vocabulary]\nnouns = ["a"]\n', "names and others"),
        ('[vocabulary]\nnames = ["Two Words"]\n', "lower-case letters"),
        ("not toml", "cannot be read"),
    ],
)
def test_a_mistake_is_named_with_its_place(site, text, message):
    with pytest.raises(SettingsWrong, match=message) as caught:
        site(text)
    assert "site.toml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsWrong, match="cannot be read"):
        load_rules(tmp_path / "none.toml")


def test_rules_of_another_format_are_refused(tmp_path):
    (tmp_path / "new.toml").write_text("format = 2\n")
    with pytest.raises(SettingsWrong, match="format = 1"):
        load_rules(tmp_path / "new.toml")


def test_names_of_the_bundled_rules_are_unique():
    rules = load_rules()
    names = [(rule.name, type(rule.test)) for rule in (*rules.terms, *rules.marks)]
    assert len(names) == len(set(names))
