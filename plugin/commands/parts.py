"""The commands that run a part of a node each, on one host or on several: `glionode listen`, `work`, `deliver`."""

import logging
from typing import TYPE_CHECKING

import typer

from pipeline.errors import GlionodeError
from plugin.commands.node import load_settings_or_exit
from plugin.commands.segment import ConfigOption
from plugin.commands.terminal import FAILED, refuse
from plugin.logs import set_up_logging

if TYPE_CHECKING:
    from collections.abc import Callable

    from plugin.settings.sections import Settings


def add_part_commands(app: typer.Typer) -> None:
    """Register the commands with the command line."""
    app.command()(listen)
    app.command()(work)
    app.command()(deliver)


def listen(config: ConfigOption = None) -> None:
    """Receive studies and make jobs of them; keep images and results. One of the parts of `serve`.

    Needs database.url. One process for each data folder. With http.enabled and a token, workers and deliverers without
    its disk fetch images and results here.
    """
    from plugin.node.run import listen as run

    _run(config, run)


def work(config: ConfigOption = None) -> None:
    """Segment studies; several of these, on as many hosts, share the jobs. One of the parts of `serve`.

    Needs database.url, and the data folder of `listen` or http.archive_url. The job of one that dies is taken over by
    another within 30 seconds.
    """

    def run(settings: "Settings") -> None:
        from plugin.node.run import work as run_worker
        from plugin.worker.study_segmenter import StudySegmenter

        run_worker(settings, StudySegmenter(settings))

    _run(config, run)


def deliver(config: ConfigOption = None) -> None:
    """Send results to the destinations. One of the parts of `serve`.

    Needs database.url, and the data folder of `listen` or http.archive_url. Of several, one at a time looks after a
    destination, and another steps in when that one is gone.
    """
    from plugin.node.run import deliver as run

    _run(config, run)


def _run(config: ConfigOption, run: "Callable[[Settings], None]") -> None:
    settings = load_settings_or_exit(config)
    set_up_logging(logging.INFO, settings.logging.format)
    try:
        run(settings)
    except GlionodeError as exc:
        raise refuse(str(exc), FAILED) from exc
