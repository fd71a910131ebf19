"""Run `glionode serve`, or one of its services, with the stand-in segmenter.

python -m tests.support.service SERVICE SETTINGS CONTROLS [PLUGIN]
"""

import logging
import sys
from functools import partial
from pathlib import Path

from plugin.logs import set_up_logging
from plugin.node.run import deliver, listen, serve, work
from plugin.orthanc_api.script import PluginFiles
from plugin.settings.load import load_settings
from tests.support.stand_in_segmenter import make_stand_in


def main(service: str, settings_file: Path, controls: Path, plugin: Path | None = None) -> None:
    """Run the service until SIGTERM arrives; `serve` with a hosted plugin if one is named."""
    settings = load_settings(settings_file)
    set_up_logging(logging.INFO, settings.logging.format)
    segment = partial(make_stand_in, controls)
    if service == "serve":
        serve(settings, segment, plugin=PluginFiles(plugin) if plugin is not None else None)
    elif service == "listen":
        listen(settings)
    elif service == "work":
        work(settings, segment)
    elif service == "deliver":
        deliver(settings)
    else:
        sys.exit(f"there is no service {service}")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
