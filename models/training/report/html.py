"""Render static HTML pages from jinja2 templates. A page stands alone: it fetches no script, font or picture.

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

Every value is escaped; pass text, never HTML. A value that the template names and the caller does not pass is an error.
"""

import base64
from collections.abc import Sequence
from functools import cache
from html import escape

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: object) -> str:
    """Return the page that a template, named by its path below models/training, makes of these values."""
    return environment().get_template(template).render(values)


@cache
def environment() -> Environment:
    """Return what renders every page: templates below models/training, all values escaped, a missing one an error."""
    made = Environment(
        loader=PackageLoader("models.training", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["data_uri"] = _data_uri
    return made


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; color: #1c1f23;
       background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #d5d9de; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { border-bottom: 1px solid #e3e6ea; padding: .3rem .6rem; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
th { background: #f4f6f8; font-weight: 600; }
.caption { color: #555c64; font-size: .9rem; margin: 1.2rem 0 -.4rem; }
img { max-width: 100%; height: auto; }
.note { color: #555c64; } .warning { background: #fff4d6; border-left: 4px solid #e0a800; padding: .5rem .8rem; }
.scroll { overflow-x: auto; }
figure { margin: 1rem 0; } figcaption { color: #555c64; font-size: .9rem; }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page; the parts are HTML."""
    # The policy holds a browser to it: nothing is fetched, nothing runs.
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table of plain texts."""
    said = paragraph(caption, "caption") if caption else ""  # a <caption> would be no wider than its table
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'{said}<div class="scroll"><table><thead><tr>{cells}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def heading(text: str) -> str:
    """A section's title."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text; kind is "", "note", "caption" or "warning"."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def picture(png: bytes, alternative: str, caption: str = "") -> str:
    """A picture inside of the page itself."""
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    content = base64.b64encode(png).decode("ascii")
    return f'<figure><img alt="{escape(alternative)}" src="data:image/png;base64,{content}">{said}</figure>'
