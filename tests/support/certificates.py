"""Make certificates for tests with OpenSSL's program: an authority and the certificates that it signs."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    certificate: str
    key: str


class Authority:
    """A certificate authority with its files in a new folder."""

    def __init__(self, program: Callable[[str], str], folder: Path) -> None:
        self._openssl = program("openssl")
        self._folder = folder
        folder.mkdir()
        self._own = self._make("authority", "-addext", "basicConstraints=critical,CA:TRUE")
        self.certificate = self._own.certificate

    def sign(self, name: str, subject: str = "IP:127.0.0.1", days: int = 90) -> Certificate:
        """Make a certificate for a subject alternative name, valid for `days`."""
        own = self._own
        signed = ("-CA", own.certificate, "-CAkey", own.key, "-addext", "basicConstraints=CA:FALSE")
        return self._make(name, *signed, "-addext", f"subjectAltName={subject}", days=days)

    def _make(self, name: str, *options: str, days: int = 90) -> Certificate:
        made = Certificate(str(self._folder / f"{name}.pem"), str(self._folder / f"{name}.key"))
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
        files = ("-out", made.certificate, "-keyout", made.key, "-subj", f"/CN={name}", "-days", str(days))
        subprocess.run([self._openssl, "req", "-x509", *curve, *files, *options], check=True, capture_output=True)
        return made
