"""Say which channels and labels every case of a data set must have."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

ALL, ANY = "all", "any"


@dataclass(frozen=True, slots=True)
class Required:
    """The channels and labels without which a study does not become a case."""

    names: frozenset[str] | None = None
    """None for all that the data set is to have."""

    def lacking(self, wanted: Sequence[str], there: Collection[str]) -> list[str]:
        """Return what of `wanted` is required and not there, in the order of `wanted`."""
        return [name for name in wanted if name not in there and (self.names is None or name in self.names)]

    def check(self, channels: Sequence[str], labels: Sequence[str]) -> None:
        """Raise ValueError if something is required that the data set is not to have."""
        if unknown := sorted((self.names or frozenset()) - {*channels, *labels}):
            raise ValueError(f"{unknown[0]} is required, and is not among the channels and labels of the data set")


ALL_REQUIRED = Required()


def parse_required(text: str) -> Required:
    """Read "all", "any" (one channel and one label that somebody drew, whichever) or names with commas between them."""
    if text.strip() in (ALL, ANY):
        return ALL_REQUIRED if text.strip() == ALL else Required(frozenset())
    return Required(frozenset(word.strip() for word in text.split(",") if word.strip()))
