"""Read the commands and links out of the project's pages."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class CommandLine:
    """A command line of a page, without its comment."""

    page: str
    line: int
    text: str

    @property
    def words(self) -> list[str]:
        """The words that a shell would see; redirections and operators stand as words."""
        return shlex.split(self.text)


def blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    """Yield each fenced block of a page: the number of its first line, its language and its text."""
    language, start, lines = "", 0, []
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if fenced:
                yield start, language, "\n".join(lines)
            fenced, language, start, lines = not fenced, line[3:].strip(), number + 1, []
        elif fenced:
            lines.append(line)


def commands(page: Path) -> Iterator[CommandLine]:
    """Yield the command lines of a page: those of blocks without a language, except drawings and listings."""
    for start, language, text in blocks(page):
        if language or re.search(r"[─►└]|^\S+/$", text, re.M):
            continue
        here_document = ""
        for offset, line in enumerate(text.splitlines()):
            if here_document:
                here_document = "" if line == here_document else here_document
                continue
            if match := re.search(r"<<(\w+)$", line):
                here_document = match[1]
            for part in re.sub(r"\s+#\s.*$", "", line).split("&&"):
                if part.strip():
                    yield CommandLine(page.name, start + offset, part.strip())


def all_commands() -> list[CommandLine]:
    """Return the command lines of all pages."""
    return [command for page in PAGES for command in commands(page)]
