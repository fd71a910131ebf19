"""The commands on a node as the pages have them, against a node that runs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from plugin.node.lock import running_node
from tests.support.documentation import all_commands
from tests.support.node import NodeInThread, Pacs, config_of, glionode, make_instance, new_study_uid, send, wait_until
from tests.support.small_study import write_small_study

NODE_COMMANDS = (
    "status",
    "health",
    "jobs",
    "show",
    "retry",
    "cancel",
    "force",
    "purge",
    "adopt",
    "echo",
    "check-config",
)
OTHER_COMMANDS = ("explain", "inspect", "classify")
MODEL_COMMANDS = (["models", "list"], ["models", "show"], ["models", "verify"])

EXPECTED = {"retry --dead": 1}
"""Exit statuses other than 0: no delivery was given up here."""


def lines() -> list[list[str]]:
    """Return the words of each line, without the program's name, each line once."""
    found: dict[tuple[str, ...], None] = {}
    for command in all_commands():
        words = command.words
        if words[0].endswith("glionode") and (
            words[1] in (*NODE_COMMANDS, *OTHER_COMMANDS) or words[1:3] in MODEL_COMMANDS
        ):
            found[tuple(words[1:])] = None
    return [list(words) for words in found]


def test_every_line_on_a_node_runs(
    make_node: Callable[..., NodeInThread],
    pacs: Pacs,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = make_node(
        study={"stable_after_s": 3600.0},  # no study becomes a job by itself
        destinations=[pacs.destination()],
        http={"enabled": True, "port": 0},
    ).start()
    running = running_node(node.settings.data_dir)
    assert running is not None
    config = config_of(node, tmp_path)
    config.write_text(
        f"{config.read_text()}[http]\nenabled = true\nport = {running.http_url.rpartition(':')[2]}\n"
        f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {pacs.port}\n'
    )
    monkeypatch.setenv("GLIONODE_CONFIG", str(config))
    done, failing, also_failing, held, fresh = (new_study_uid() for _ in range(5))

    def send_and_segment(study: str, control: str, **counts: int) -> None:
        """Send a study, start its job under a control of the stand-in segmenter, and wait for these numbers of jobs."""
        send(node.port, *(make_instance(study, number=number) for number in (1, 2)))
        if control:
            (node.controls / control).touch()
        assert glionode("force", study)[0] == 0
        wait_until(lambda: node.jobs_are(**counts), f"jobs are {counts}")

    send_and_segment(done, "", segmented=1)
    wait_until(lambda: len(pacs.received) == 2, "the results arrive")
    send_and_segment(failing, "fail", segmented=1, failed=1)
    send_and_segment(also_failing, "", segmented=1, failed=2)
    send_and_segment(held, "hold", segmented=1, failed=2, running=1)
    send(node.port, *(make_instance(fresh, number=number) for number in (1, 2)))
    status, text = glionode("jobs", "--json")
    assert status == 0
    keys = {job["study_instance_uid"]: job["key"] for job in json.loads(text)}
    jobs = {"show": keys[done], "cancel": keys[held], "retry": keys[failing]}

    write_small_study(new_study_uid(), tmp_path / "study")
    (tmp_path / "descriptions.txt").write_text("t1_mprage_sag_p2_iso_KM\nADC\n")
    files = {"IN": str(tmp_path / "study"), "LIST": str(tmp_path / "descriptions.txt")}

    failed: dict[str, str] = {}
    for words in lines():
        names = {"JOB": jobs.get(words[0], ""), "STUDY": fresh, "DEST": "pacs", "NAME": "phantom-demo", **files}
        given = [names.get(word, word) for word in words]
        if "--config" in given:  # the page's file is another machine's
            place = given.index("--config")
            del given[place : place + 2]
        status, text = glionode(*given)
        if status != EXPECTED.get(" ".join(words), 0):
            failed[" ".join(words)] = f"exit status {status}: {text}"
    (node.controls / "hold").unlink()
    assert failed == {}
