"""command.json by the rules by which XNAT's Container Service validates a command (Command.validate).

The rules are reimplemented here, because Container Service needs an XNAT. A test breaks each rule in turn.
"""

import copy
import json
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from plugin.commands.app import app
from tests.support.paths import ROOT

COMMAND = json.loads((ROOT / "plugin/xnat/command.json").read_text(encoding="utf-8"))
INPUT_TYPES = {
    *("string", "boolean", "number", "Directory", "File[]", "File", "Project", "Subject", "Session", "Scan"),
    *("Assessor", "Resource", "Config"),
}
OUTPUT_TYPES = {"Resource", "Assessor", "Scan"}
MULTIPLE_DELIMITERS = {"quoted-space", "space", "comma", "flag"}
Json = dict[str, Any]


def blank(value: object) -> bool:
    return not str(value or "").strip()


def repeated_names(things: list[Json]) -> Iterator[str]:
    names = [thing.get("name") for thing in things]
    yield from (f"name {name} is not unique" for name in {name for name in names if names.count(name) > 1})


def odd_names(things: list[Json]) -> Iterator[str]:
    for thing in things:
        if blank(thing.get("name")) or re.search(r"[^A-Za-z0-9_-]", thing["name"]):
            yield f"name {thing.get('name')!r} is blank or has odd characters"


def problems(command: Json) -> list[str]:
    return [
        *_command_problems(command),
        *(each for wrapper in command["xnat"] for each in _wrapper_problems(wrapper, command)),
    ]


def _command_problems(command: Json) -> Iterator[str]:
    if blank(command.get("name")):
        yield "the command has no name"
    if not re.fullmatch(r".+:[A-Za-z0-9_.-]+", command.get("image", "")):
        yield "the image has no tag"
    if command.get("type") != "docker":
        yield "the type is not docker"
    mounts = {mount.get("name") for mount in command["mounts"]}
    for things in (command["mounts"], command["inputs"], command["outputs"], command["xnat"]):
        yield from repeated_names(things)
    yield from odd_names([*command["inputs"], *command["outputs"]])
    for each in command["inputs"]:
        if each.get("select-values") or each.get("type") in ("select-one", "select-many"):
            yield f"input {each['name']} is a choice, which a wrapper cannot fill"
        if each.get("multiple-delimiter", "space") not in MULTIPLE_DELIMITERS:
            yield f"input {each['name']} is joined by an unknown delimiter"
    for output in command["outputs"]:
        if output.get("mount") not in mounts:
            yield f"output {output['name']} is on an unknown mount"
    yield from _mount_problems(command)


def _mount_problems(command: Json) -> Iterator[str]:
    for mount in command["mounts"]:
        if blank(mount.get("name")) or blank(mount.get("path")):
            yield "a mount lacks name or path"
    for limit in command.get("ulimits", {}).values():
        if not limit or limit.count(":") > 1:
            yield f"ulimit {limit!r} is neither a limit nor soft:hard"


def _wrapper_problems(wrapper: Json, command: Json) -> Iterator[str]:
    if blank(wrapper.get("name")) or blank(wrapper.get("description")):
        yield "a wrapper lacks name or description"
    external, derived = wrapper["external-inputs"], wrapper["derived-inputs"]
    if len(external) != 1:
        yield "a wrapper has one external input, by which XNAT offers it"
    if not wrapper.get("contexts"):
        yield "the wrapper is offered nowhere"
    yield from odd_names([*external, *derived, *wrapper["output-handlers"]])
    yield from repeated_names([*external, *derived])
    yield from repeated_names(wrapper["output-handlers"])
    inputs = {each["name"] for each in command["inputs"]}
    mounts = {mount["name"] for mount in command["mounts"]}
    known = {each["name"] for each in external}
    for each in (*external, *derived):
        if each.get("type") not in INPUT_TYPES:
            yield f"input {each['name']} has an unknown type"
        if each.get("provides-value-for-command-input", next(iter(inputs))) not in inputs:
            yield f"input {each['name']} provides for an unknown input"
        if each.get("provides-files-for-command-mount", next(iter(mounts))) not in mounts:
            yield f"input {each['name']} provides for an unknown mount"
        if each.get("via-setup-command") and not each.get("provides-files-for-command-mount"):
            yield f"input {each['name']} is set up, but mounted nowhere"
    for each in derived:
        if each.get("derived-from-wrapper-input") not in known or each["derived-from-wrapper-input"] == each["name"]:
            yield f"input {each['name']} is derived from nothing known before it"
        if each.get("multiple") and (
            each.get("provides-files-for-command-mount") or not each.get("provides-value-for-command-input")
        ):
            yield f"input {each['name']} has several values, which only an input of the command can take"
        known.add(each["name"])
    yield from _handler_problems(wrapper, command, known)


def _handler_problems(wrapper: Json, command: Json, known: set[str]) -> Iterator[str]:
    outputs = {output["name"] for output in command["outputs"]}
    no_parents = {
        each["name"]
        for each in wrapper["derived-inputs"]
        if each.get("multiple") or each.get("derived-from-xnat-object-property", "uri") != "uri"
    }
    for handler in wrapper["output-handlers"]:
        if handler.get("accepts-command-output") not in outputs:
            yield f"handler {handler['name']} is for an unknown output"
        if handler.get("as-a-child-of") not in known - no_parents:
            yield f"handler {handler['name']} has no parent before it"
        if handler.get("type") not in OUTPUT_TYPES:
            yield f"handler {handler['name']} has an unknown type"
        if handler.get("type") == "Resource" and blank(handler.get("label")):
            yield f"handler {handler['name']} makes a resource without a label"
        known.add(handler["name"])
    for output in outputs - {handler.get("accepts-command-output") for handler in wrapper["output-handlers"]}:
        yield f"output {output} has no handler"


def test_container_service_would_accept_it() -> None:
    assert problems(COMMAND) == []
    assert COMMAND["schema-version"] == "1.0"


BREAKS: dict[str, Callable[[Json], Any]] = {
    "has no name": lambda command: command.update(name=" "),
    "has no tag": lambda command: command.update(image="glionode"),
    "not docker": lambda command: command.update(type="docker-setup"),
    "lacks name or path": lambda command: command["mounts"][0].update(path=""),
    "odd characters": lambda command: command["inputs"][0].update(name="SESSION ID"),
    "not unique": lambda command: command["outputs"].append(command["outputs"][0]),
    "a choice": lambda command: command["inputs"][0].update({"select-values": ["a"]}),
    "unknown delimiter": lambda command: command["inputs"][0].update({"multiple-delimiter": ";"}),
    "neither a limit": lambda command: command.update(ulimits={"memlock": "1:2:3"}),
    "several values": lambda command: command["xnat"][0]["derived-inputs"][0].update(
        {"multiple": True, "provides-files-for-command-mount": "in"}
    ),
    "unknown mount": lambda command: command["outputs"][0].update(mount="nowhere"),
    "lacks name or description": lambda command: command["xnat"][0].update(description=None),
    "one external input": lambda command: command["xnat"][0]["external-inputs"].clear(),
    "offered nowhere": lambda command: command["xnat"][0].update(contexts=[]),
    "has an unknown type": lambda command: command["xnat"][0]["output-handlers"][0].update(type="resource"),
    "provides for an unknown input": lambda command: command["xnat"][0]["derived-inputs"][0].update(
        {"provides-value-for-command-input": "session"}
    ),
    "derived from nothing": lambda command: command["xnat"][0]["derived-inputs"][0].update(
        {"derived-from-wrapper-input": "session-id"}
    ),
    "no parent before it": lambda command: command["xnat"][0]["output-handlers"].reverse(),
    "without a label": lambda command: command["xnat"][0]["output-handlers"][0].update(label=""),
    "has no handler": lambda command: command["xnat"][0]["output-handlers"].pop(),
}


@pytest.mark.parametrize("word", list(BREAKS))
def test_a_broken_rule_is_reported(word: str) -> None:
    broken = copy.deepcopy(COMMAND)
    BREAKS[word](broken)
    assert any(word in problem for problem in problems(broken)), problems(broken)


def test_the_command_line_is_valid() -> None:
    """With the inputs filled in as Container Service does, the program accepts the command line."""
    line = COMMAND["command-line"]
    for each in COMMAND["inputs"]:
        assert f"#{each['name']}#" in line
        line = line.replace(f"#{each['name']}#", f"{each['command-line-flag']} XNAT_1")
    assert "#" not in line
    program, *words = shlex.split(line)
    assert program == "glionode"
    result = CliRunner().invoke(app, words, prog_name="glionode")
    assert result.exit_code == 64
    assert "/input is not an XNAT session" in " ".join(result.output.split())


def test_scans_and_assessors_are_uploaded_from_one_xml_file() -> None:
    paths = {output["name"]: output["path"] for output in COMMAND["outputs"]}
    for handler in COMMAND["xnat"][0]["output-handlers"]:
        document = handler["type"] in ("Scan", "Assessor")
        assert paths[handler["accepts-command-output"]].endswith(".xml") == document


def test_it_needs_no_secret() -> None:
    assert not re.search("pass|token|secret|XNAT_USER", json.dumps(COMMAND), re.IGNORECASE)
