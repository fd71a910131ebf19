"""The rules for choosing series, extended by a site's own file, which is reloaded when it changes."""

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
        self._stamp = self._file_stamp()
        self._rules = load_rules(path)

    def current(self) -> Rules:
        """Return the rules, reloaded if the file changed; a broken file leaves the last valid rules in force."""
        stamp = self._file_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._rules = load_rules(self._path)
                _LOG.info("reloaded the rules from %s", self._path)
            except SettingsWrong as exc:
                _LOG.error("the changed rules are not used, the previous ones stay in force: %s", exc)
        return self._rules

    def _file_stamp(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size) if found is not None else None
