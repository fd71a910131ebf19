"""Test that the listener stores the bytes that DCMTK's storescu sends, with each of its options."""

import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    RLELossless,
)

from tests.support.listener import ListenerWithArchive
from tests.support.node import make_instance, new_study_uid, write_instance

# The option of storescu that proposes a transfer syntax, and the command that makes files of it.
VARIANTS = {
    "little endian": (("-xe",), ("dcmconv", "+te"), ExplicitVRLittleEndian),
    "big endian": (("-xb",), ("dcmconv", "+tb"), ExplicitVRBigEndian),
    "implicit": (("-xi",), ("dcmconv", "+ti"), ImplicitVRLittleEndian),
    "deflated": (("-xd",), ("dcmconv", "+td"), DeflatedExplicitVRLittleEndian),
    "JPEG lossless": (("-xs",), ("dcmcjpeg", "+e1"), JPEGLosslessSV1),
    "RLE": (("-xr",), ("dcmcrle",), RLELossless),
}
IMAGES = 3


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[ListenerWithArchive]:
    """A listener with an archive."""
    made = ListenerWithArchive(tmp_path / "node", max_associations=40, max_associations_per_peer=40)
    yield made
    made.listener.stop(2)


@pytest.fixture
def files(tmp_path: Path, program: Callable[[str], str]) -> Callable[..., list[Path]]:
    """Make the files of a study as DCMTK writes them."""

    def make(maker: tuple[str, ...]) -> list[Path]:
        study = new_study_uid()
        folder = tmp_path / "sent" / study
        made = []
        for number in range(IMAGES):
            source = write_instance(make_instance(study, number=number), tmp_path / "plain")
            made.append(folder / source.name)
            folder.mkdir(parents=True, exist_ok=True)
            command = [program(maker[0]), *maker[1:], str(source), str(made[-1])]
            subprocess.run(command, check=True, capture_output=True)
        return made

    return make


def data_set(path: Path) -> bytes:
    """Return the data set of a DICOM file, inflated if it is deflated."""
    content = path.read_bytes()
    rest = content[144 + int.from_bytes(content[140:144], "little") :]
    deflated = read_file_meta_info(path).TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    # PS3.5 A.5: the content is padded to even length, so the stream may end before it.
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(rest) if deflated else rest


def archived(listener: ListenerWithArchive, sent: list[Path]) -> list[Path]:
    """Return the archive's files of a study, in the order of the sent files."""
    found = {path.stem: path for path in listener.archive.files(dcmread(sent[0]).StudyInstanceUID)}
    assert found.keys() == {path.stem for path in sent}
    return [found[path.stem] for path in sent]


def storescu(program: Callable[[str], str], listener: ListenerWithArchive, *arguments: object) -> list[str]:
    """Return a command line of storescu."""
    return [
        program("storescu"),
        *("-aec", "GLIONODE", "127.0.0.1", str(listener.port)),
        *(str(argument) for argument in arguments),
    ]


@pytest.mark.parametrize("required", [(), ("--required",)], ids=["all contexts", "required contexts"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_transfer_syntax_arrives_as_it_was_sent(
    variant: str,
    required: tuple[str, ...],
    listener: ListenerWithArchive,
    files: Callable[..., list[Path]],
    program: Callable[[str], str],
) -> None:
    proposed, maker, syntax = VARIANTS[variant]
    sent = files(maker)
    subprocess.run(storescu(program, listener, *proposed, *required, *sent), check=True, capture_output=True)
    for before, after in zip(sent, archived(listener, sent), strict=True):
        assert read_file_meta_info(after).TransferSyntaxUID == syntax == read_file_meta_info(before).TransferSyntaxUID
        assert data_set(after) == data_set(before)


@pytest.mark.parametrize("options", [(), ("--required",), ("+C",), ("--required", "+C", "-xb")], ids=" ".join)
def test_files_that_storescu_converts_arrive_unchanged_but_for_the_transfer_syntax(
    options: tuple[str, ...],
    listener: ListenerWithArchive,
    files: Callable[..., list[Path]],
    program: Callable[[str], str],
    tmp_path: Path,
) -> None:
    """storescu may convert files; after DCMTK's conversion back, the bytes are the same."""
    sent = files(("dcmconv", "+te"))
    subprocess.run(storescu(program, listener, *options, *sent), check=True, capture_output=True)
    for before, after in zip(sent, archived(listener, sent), strict=True):
        again = tmp_path / "again.dcm"
        subprocess.run([program("dcmconv"), "+te", str(after), str(again)], check=True, capture_output=True)
        assert data_set(again) == data_set(before)


def test_sixteen_simultaneous_senders_in_all_transfer_syntaxes(
    listener: ListenerWithArchive, files: Callable[..., list[Path]], program: Callable[[str], str]
) -> None:
    variants = [list(VARIANTS.values())[number % len(VARIANTS)] for number in range(16)]
    studies = [files(maker) for _, maker, _ in variants]
    senders = [
        subprocess.Popen(
            storescu(program, listener, *proposed, *sent), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for (proposed, _, _), sent in zip(variants, studies, strict=True)
    ]
    assert [sender.wait(60) for sender in senders] == [0] * 16
    for sent in studies:
        assert [data_set(path) for path in archived(listener, sent)] == [data_set(path) for path in sent]
    assert len(listener.archive.studies()) == 16
