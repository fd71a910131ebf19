"""Find private data elements by their private creator (PS3.5 7.8.1), never by a fixed number.

A creator reserves a block of its group: (gggg,0010-00FF) holds its name, and its elements are (gggg,bb00-bbFF).
Scanners use block 10, but what adds elements of its own to a group later, such as an archive, may move them to another.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.header import Header

_FIRST_BLOCK, _LAST_BLOCK = 0x10, 0xFF


@dataclass(frozen=True, slots=True)
class PrivateElement:
    """A private element as its maker documents it."""

    group: int
    creator: str
    number: int
    """The last two hexadecimal digits of its tag."""
    vr: str
    """Value representation, for files that do not say it."""
    maker: str
    """What (0008,0070) begins with on the maker's scanners, in upper case."""

    def tag(self, block: int) -> int:
        """Return its tag in a block."""
        return self.group << 16 | block << 8 | self.number


def tags_to_read(elements: Iterable[PrivateElement]) -> frozenset[int]:
    """Return every tag that the elements and their creators may have."""
    return frozenset(
        tag
        for each in elements
        for block in range(_FIRST_BLOCK, _LAST_BLOCK + 1)
        for tag in (each.group << 16 | block, each.tag(block))
    )


def private_numbers(header: Header, element: PrivateElement, manufacturer: str) -> tuple[float, ...]:
    """Return the numbers of a private element; () where its creator reserved no block, or the block lacks it."""
    for tag in private_tags(header, element, manufacturer):
        if numbers := header.numbers(tag, element.vr):
            return numbers
    return ()


def private_tags(header: Header, element: PrivateElement, manufacturer: str) -> Iterator[int]:
    """Yield the tags that a private element may have in a header, by the blocks that its creator reserved.

    Some programs that remove patient data remove the creators and leave the elements. Then the block that scanners use
    is believed only if the manufacturer is the element's maker, and nobody else reserved it.
    """
    yield from (element.tag(block) for block in _blocks(header, element, manufacturer))


def _blocks(header: Header, element: PrivateElement, manufacturer: str) -> Iterator[int]:
    creator, group = element.creator.casefold(), element.group << 16
    # Plain integers: comparing the tags of pydicom takes ten times as long.
    tags = [int(tag) - group for tag in list(header.dataset.keys()) if tag >> 16 == element.group]
    reserved = sorted(tag for tag in tags if _FIRST_BLOCK <= tag <= _LAST_BLOCK)
    for block in reserved:
        if header.text(group | block).casefold() == creator:
            yield block
    if tags and _FIRST_BLOCK not in reserved and manufacturer.strip().upper().startswith(element.maker):
        yield _FIRST_BLOCK
