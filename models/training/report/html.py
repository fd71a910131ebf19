"""Render static pages from jinja2 templates. An HTML page stands alone: it fetches no script, font or picture.

A template lies beside the code that renders it, ends in `.html.jinja` and is named by its path below models/training:

    render("evaluation/report.html.jinja", title="Evaluation", labels=[...], rows=[...], png=b"...")

and looks like this, with `title` for the page's title and heading:

    {% extends "report/page.html.jinja" %}
    {% from "report/parts.html.jinja" import picture, table %}
    {% block body %}
    <h2>Labels</h2>
    {{ table(["Label", "Dice"], rows, "Caption, or nothing") }}
    {{ picture(png, "Text for who cannot see it", "Caption, or nothing") }}
    <p class="warning">{{ sentence }}</p>
    {% endblock %}

A template of Markdown ends in `.md.jinja`. Values are escaped in HTML and not in Markdown; pass text, never HTML. A
value that the template names and the caller does not pass is an error.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts, for a page or for Markdown."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    @property
    def markdown(self) -> str:
        """The table without its caption in Markdown, its columns padded so that it can be read as plain text."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        return "\n".join(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in (self.head, ["-" * width for width in widths], *self.rows)
        )


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that becomes part of the page."""

    png: bytes
    alternative: str
    """Text for who cannot see it."""
    caption: str = ""


def format_number(value: float | None) -> str:
    """Return a number with three decimals; a dash for None."""
    return "-" if value is None else f"{value:.3f}"


def format_p(value: float | None) -> str:
    """Return a probability as papers print it; a dash for None."""
    return "< 0.001" if value is not None and value < 0.001 else format_number(value)


def render(template: str, **values: object) -> str:
    """Return the page that a template, named by its path below models/training, makes of these values."""
    return environment().get_template(template).render(values)


@cache
def environment() -> Environment:
    """Return what renders every page: templates below models/training; a missing value is an error."""
    made = Environment(
        loader=PackageLoader("models.training", "."),
        autoescape=select_autoescape(["html.jinja"], default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["data_uri"] = _data_uri
    made.filters["one_line"] = lambda text: " ".join(text.split())
    return made


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
