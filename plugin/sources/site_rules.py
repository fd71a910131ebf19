"""The rules for choosing series, with a site's own file on top, read anew when that file changes."""

import logging
from pathlib import Path

from pipeline.errors import SettingsWrong
from pipeline.rules import Rules, load_rules

_LOG = logging.getLogger(__name__)


class SiteRules:
    """The bundled rules extended by a file that may change while the node runs."""

    def __init__(self, path: Path | None) -> None:
        """Read the rules. Raises SettingsWrong, naming file and line."""
        self._path = path
        self._stamp = self._look()
        self._rules = load_rules(path)

    def current(self) -> Rules:
        """The rules as the file says now; where it has become wrong, the last ones that were right."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._rules = load_rules(self._path)
                _LOG.info("the rules were read anew from %s", self._path)
            except SettingsWrong as exc:
                _LOG.error("the rules stay as they were: %s", exc)
        return self._rules

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size) if found is not None else None
