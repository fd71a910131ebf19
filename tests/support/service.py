"""Run `glionode serve`, or one of its services, with the stand-in segmenter.

python -m tests.support.service SERVICE SETTINGS CONTROLS
"""

import logging
import sys
from functools import partial
from pathlib import Path

from plugin.logs import set_up_logging
from plugin.node.run import deliver, listen, serve, work
from plugin.settings.load import load_settings
from tests.support.stand_in_segmenter import make_stand_in


def main(service: str, settings_file: Path, controls: Path) -> None:
    """Run the service until SIGTERM arrives."""
    settings = load_settings(settings_file)
    set_up_logging(logging.INFO, settings.logging.format)
    segment = partial(make_stand_in, controls)
    if service == "serve":
        serve(settings, segment)
    elif service == "listen":
        listen(settings)
    elif service == "work":
        work(settings, segment)
    elif service == "deliver":
        deliver(settings)
    else:
        sys.exit(f"there is no service {service}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
