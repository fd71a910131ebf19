"""Retrieve an object by WADO-RS (PS3.18 10.4), byte for byte."""

import urllib.request

ANY_SYNTAX = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Requests the stored transfer syntax: the server must not transcode."""


def retrieve(root: str, study: str, series: str, instance: str) -> bytes:
    """Return the DICOM file of an object from a DICOMweb server. Raises HTTPError."""
    address = f"{root}studies/{study}/series/{series}/instances/{instance}"
    with urllib.request.urlopen(urllib.request.Request(address, headers={"Accept": ANY_SYNTAX}), timeout=60) as answer:
        boundary = answer.headers.get_param("boundary").encode()
        body = answer.read()
    # RFC 2046 5.1.1: --boundary, the part's headers, an empty line, the part, CR LF, --boundary--
    _, part, _ = body.split(b"--" + boundary)
    file: bytes = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
    return file
