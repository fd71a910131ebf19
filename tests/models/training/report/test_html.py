"""Pages are rendered from templates with every value escaped, and hold the pictures that they show."""

import base64
import tomllib
from fnmatch import fnmatch

import pytest
from jinja2 import UndefinedError

from models.training.report.html import environment
from tests.support.paths import ROOT

PAGE = """{% extends "report/page.html.jinja" %}
{% from "report/parts.html.jinja" import picture, table %}
{% block body %}
{{ table(["Name", "Value"], rows, "Numbers") }}
{{ picture(png, "A <picture>") }}
{% endblock %}"""


def test_values_are_escaped_and_pictures_are_inside_the_page() -> None:
    text = environment().from_string(PAGE).render(title="a < b", rows=[("<b>", "1 & 2")], png=b"a picture")
    assert "<title>a &lt; b</title>" in text
    assert "<h1>a &lt; b</h1>" in text
    assert '<p class="caption">Numbers</p>' in text
    assert "<td>&lt;b&gt;</td><td>1 &amp; 2</td>" in text
    encoded = base64.b64encode(b"a picture").decode()
    assert f'<img alt="A &lt;picture&gt;" src="data:image/png;base64,{encoded}"></figure>' in text
    assert "default-src 'none'" in text


def test_a_value_that_is_not_passed_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        environment().from_string(PAGE).render(rows=[], png=b"a picture")


def test_a_wheel_includes_every_template() -> None:
    """Setuptools includes what the patterns of pyproject.toml match."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["models"]
    templates = [path.relative_to(ROOT / "models").as_posix() for path in (ROOT / "models").rglob("*.jinja")]
    assert len(templates) >= 5
    assert [path for path in templates if not any(fnmatch(path, pattern) for pattern in patterns)] == []
