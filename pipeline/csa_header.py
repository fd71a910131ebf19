"""Read numbers of Siemens' CSA header, (0029,xx10) of "SIEMENS CSA HEADER", which older scanners use for diffusion.

It is a list of named elements in little-endian order; nibabel's documentation describes the two forms of it, CSA1 and
CSA2. One element is found by its name, without walking through the others.
"""

import struct

_ELEMENT = struct.Struct("<64si4s3i")
"""Name, multiplicity, value representation, type, number of items, and a check."""
_ITEM = struct.Struct("<4i")
_CSA2 = b"SV10"
_FIRST_ELEMENT = {True: 16, False: 8}
"""Offset of the first element, by whether the form is CSA2."""
_MOST_ITEMS = 100


def csa_numbers(header: bytes, name: str) -> tuple[float, ...]:
    """Return the numbers of an element; () if it is absent, empty or damaged."""
    offset = header.find(name.encode("ascii") + b"\0")
    is_csa2 = header.startswith(_CSA2)
    try:
        _, _, _, _, count, _ = _ELEMENT.unpack_from(header, offset)
        # CSA1 adds the number of items of the first element to every length.
        surplus = 0 if is_csa2 else _ELEMENT.unpack_from(header, _FIRST_ELEMENT[is_csa2])[4]
        if offset < 0 or not 0 < count <= _MOST_ITEMS:
            return ()
        place, numbers = offset + _ELEMENT.size, []
        for _ in range(count):
            lengths = _ITEM.unpack_from(header, place)
            length = lengths[1] if is_csa2 else lengths[0] - surplus
            place += _ITEM.size
            if not 0 <= length <= len(header) - place:
                return ()
            if text := header[place : place + length].strip(b" \0"):
                numbers.append(float(text.split(b"\0")[0]))
            place += length + -length % 4
    except (struct.error, ValueError):
        return ()
    return tuple(numbers)
