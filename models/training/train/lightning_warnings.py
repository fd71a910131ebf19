"""Keep Lightning from saying to every user what it says to everybody."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_advice() -> Iterator[None]:
    """Silence what Lightning says to everybody: advertisements, advice on workers, deprecations inside itself."""
    talker = logging.getLogger("lightning.pytorch")
    level = talker.level
    talker.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            "Checkpoint directory .* exists",
            ".*isinstance.treespec, LeafSpec.",
            "Consider setting `persistent_workers",
            ".*does not have many workers",
            "`weights_only` was not set",
            "The dirpath has changed",
        ):
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            talker.setLevel(level)
