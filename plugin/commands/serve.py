"""The commands that run a node: `glionode serve` with all services in one process, `listen`, `work` and `deliver`."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import GlionodeError
from plugin.commands.options import ConfigOption, load_settings_or_exit
from plugin.commands.terminal import refuse, refusing
from plugin.logs import set_up_logging

if TYPE_CHECKING:
    from plugin.settings.sections import Settings


def serve(
    config: ConfigOption = None,
    plugin: Annotated[
        Path | None,
        typer.Option(help="Python script written for Orthanc (import orthanc), to run beside the node."),
    ] = None,
    plugin_config: Annotated[
        Path | None, typer.Option(help="The configuration that this script sees: a file like Orthanc's own.")
    ] = None,
) -> None:
    """Run the node: receive studies over DICOM, segment them, send SEG and SR to the destinations.

    It listens on loopback unless the settings say otherwise, keeps everything under storage.data_dir, and continues
    where it was after a crash. SIGTERM or Ctrl-C stops it in bounded time. The log goes to standard error; the line
    "listening as AE on HOST:PORT" says that it is ready.
    """
    if plugin_config is not None and plugin is None:
        raise refuse("--plugin-config needs a script to configure; name it with --plugin.")

    def run(settings: "Settings") -> None:
        from plugin.node.run import serve as run_all
        from plugin.orthanc_api.script import PluginFiles
        from plugin.worker.study_segmenter import StudySegmenter

        files = PluginFiles(plugin, plugin_config) if plugin is not None else None
        run_all(settings, StudySegmenter(settings), plugin=files)

    _run(config, run)


def listen(config: ConfigOption = None) -> None:
    """Receive studies, make jobs of them, and keep images and results. One of the services of `serve`.

    Needs database.url. Run one process for each data folder. With http.enabled and a token, workers and deliverers
    that do not share its disk get images and results from it.
    """
    from plugin.node.run import listen as run

    _run(config, run)


def work(config: ConfigOption = None) -> None:
    """Segment studies; several of these, on any hosts, share the jobs. One of the services of `serve`.

    Needs database.url, and the data folder of `listen` or http.archive_url. If one dies, another one runs its job
    within 30 seconds.
    """

    def run(settings: "Settings") -> None:
        from plugin.node.run import work as run_worker
        from plugin.worker.study_segmenter import StudySegmenter

        run_worker(settings, StudySegmenter(settings))

    _run(config, run)


def deliver(config: ConfigOption = None) -> None:
    """Send results to the destinations. One of the services of `serve`.

    Needs database.url, and the data folder of `listen` or http.archive_url. If several run, one at a time sends to a
    destination, and another one takes its place when it is gone.
    """
    from plugin.node.run import deliver as run

    _run(config, run)


def _run(config: Path | None, run: "Callable[[Settings], None]") -> None:
    settings = load_settings_or_exit(config)
    os.umask(0o077)  # what it writes is for its own user alone, wherever it writes
    set_up_logging(logging.INFO, settings.logging.format)
    with refusing(GlionodeError):
        run(settings)
