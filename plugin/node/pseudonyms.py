"""Replace in texts what could name a patient's study, a machine or a place: UIDs, AE titles, addresses, host names.

The same text gets the same replacement within one object of `Pseudonyms`, and another one in the next: the key is
random and not kept. So what belongs together is seen, and nobody can look up a UID that is known from elsewhere.
"""

import hashlib
import ipaddress
import re
import secrets
from collections.abc import Iterable

_UID = r"(?<![\w.])[0-2](?:\.(?:0|[1-9]\d*)){4,}"
_JOB_KEY = re.compile(_UID + r"-[0-9a-f]{16}\b")
_UIDS = re.compile(_UID)
_OF_THE_STANDARD = "1.2.840.10008."
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F]{0,4})(?![\w:])")
_LOOPBACK_OR_ANY = frozenset(("127.0.0.1", "::1", "0.0.0.0", "::"))


class Pseudonyms:
    """Replaces names, UIDs and addresses in texts."""

    def __init__(self, names: Iterable[tuple[str, str]] = ()) -> None:
        """`names` are texts to replace wherever they stand as words, each with its kind: ("ae", "MR1")."""
        self._key = secrets.token_bytes(16)
        self._kinds = {text: kind for kind, text in names if text and text not in _LOOPBACK_OR_ANY}
        longest_first = sorted(self._kinds, key=len, reverse=True)
        self._names = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first)) or '(?!)'})(?!\w)")

    def apply(self, text: str) -> str:
        """Return a text without names, UIDs and addresses."""
        text = _JOB_KEY.sub(lambda found: self._name("job", found[0]), text)
        text = self._names.sub(lambda found: self._name(self._kinds[found[0]], found[0]), text)
        text = _UIDS.sub(lambda found: self._uid(found[0]), text)
        text = _IPV4.sub(lambda found: self._address(found[0]), text)
        return _IPV6.sub(lambda found: self._address(found[0]), text)

    def _uid(self, uid: str) -> str:
        return uid if uid.startswith(_OF_THE_STANDARD) else self._name("uid", uid)

    def _address(self, text: str) -> str:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:  # a time of the day
            return text
        return text if str(address) in _LOOPBACK_OR_ANY else self._name("address", str(address))

    def _name(self, kind: str, text: str) -> str:
        return f"{kind}-{hashlib.blake2b(text.encode(), key=self._key, digest_size=4).hexdigest()}"
