"""A part of a node as a process of its own, with the stand-in for the segmenter: crash_part.py PART SETTINGS ORDERS."""

import logging
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "plugin"))
from stand_in_segmenter import make_stand_in

from plugin.logs import set_up_logging
from plugin.node import deliver, listen, serve, work
from plugin.settings_file import load_settings


def main(part: str, settings_file: Path, orders: Path) -> None:
    """Run until SIGTERM."""
    settings = load_settings(settings_file)
    set_up_logging(logging.INFO)
    segment = partial(make_stand_in, orders)
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
