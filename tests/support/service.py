"""Run `glionode serve`, or one part of it, with a stand-in for the segmenter.

python -m tests.support.service PART SETTINGS CONTROLS
"""

import logging
import sys
from functools import partial
from pathlib import Path

from plugin.logs import set_up_logging
from plugin.node.run import deliver, listen, serve, work
from plugin.settings.load import load_settings
from tests.support.stand_in_segmenter import make_stand_in


def main(part: str, settings_file: Path, controls: Path) -> None:
    """Run until SIGTERM."""
    settings = load_settings(settings_file)
    set_up_logging(logging.INFO, settings.logging.format)
    segment = partial(make_stand_in, controls)
    if part == "serve":
        serve(settings, segment)
    elif part == "listen":
        listen(settings)
    elif part == "work":
        work(settings, segment)
    elif part == "deliver":
        deliver(settings)
    else:
        sys.exit(f"there is no part {part}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
