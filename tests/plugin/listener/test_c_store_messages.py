"""C-STORE messages: pynetdicom writes what we read, and reads what we write; invalid bytes raise InvalidMessage."""

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import P_DATA_TF

from plugin.listener.c_store_messages import InvalidMessage, encode_pdu, encode_response, parse_command, split_fragments
from tests.support.node import make_instance, new_study_uid


def make_request(instance: Dataset) -> C_STORE_RQ:
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 7, 0
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = instance.SOPClassUID, instance.SOPInstanceUID
    primitive.DataSet = BytesIO(b"\0" * 10)
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    return message


def test_a_command_by_pynetdicom_is_parsed() -> None:
    instance = make_instance(new_study_uid())
    encoded = encode(make_request(instance).command_set, True, True)
    assert encoded is not None
    command = parse_command(encoded)
    assert command.is_store_request
    assert command.has_data_set
    assert (command.sop_class_uid, command.sop_instance_uid) == (instance.SOPClassUID, instance.SOPInstanceUID)
    assert command.message_id == 7


@pytest.mark.parametrize("longest_pdu", [0, 40, 16384])
@pytest.mark.parametrize(
    ("status", "comment"), [(0x0000, ""), (0xC001, "the data set does not parse"), (0xA700, "x" * 99)]
)
def test_pynetdicom_parses_our_response(status: int, comment: str, longest_pdu: int) -> None:
    instance = make_instance(new_study_uid())
    encoded = encode(make_request(instance).command_set, True, True)
    assert encoded is not None
    values, command_set = encode_response(parse_command(encoded), status, comment, longest_pdu), b""
    for number, value in enumerate(values, start=1):
        pdu = encode_pdu(3, value)
        assert not longest_pdu or len(pdu) <= longest_pdu + 6  # PS3.8 D.1: without the PDU's own header
        part = P_DATA_TF()
        part.decode(pdu)
        (item,) = part.presentation_data_value_items
        assert item.presentation_context_id == 3
        assert item.message_control_header_byte == ("00000011" if number == len(values) else "00000001")
        command_set += item.presentation_data_value[1:]
    read = C_STORE_RSP()
    read.command_set = decode(BytesIO(command_set), True, True)
    primitive = read.message_to_primitive()
    assert isinstance(primitive, C_STORE)
    assert primitive.Status == status
    assert primitive.MessageIDBeingRespondedTo == 7
    assert primitive.AffectedSOPInstanceUID == instance.SOPInstanceUID
    assert (read.command_set.get("ErrorComment") or "") == comment[:64]
    assert read.command_set.CommandGroupLength == len(command_set) - 12


def test_a_pdu_is_split_into_fragments() -> None:
    content = struct.pack(">LBB", 5, 1, 3) + b"abc" + struct.pack(">LBB", 2, 3, 0)
    first, second = split_fragments(content)
    assert (first.context_id, first.is_command, first.is_last, bytes(first.content)) == (1, True, True, b"abc")
    assert (second.context_id, second.is_command, second.is_last, bytes(second.content)) == (3, False, False, b"")


@pytest.mark.parametrize("content", [b"\0\0\0", struct.pack(">LBB", 1, 1, 3), struct.pack(">LBB", 9, 1, 3) + b"abc"])
def test_fragments_of_invalid_length_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidMessage):
        list(split_fragments(content))


@given(st.binary(max_size=200))
def test_any_bytes_parse_as_a_command_or_are_refused(encoded: bytes) -> None:
    try:
        command = parse_command(encoded)
    except InvalidMessage:
        return
    assert command.field == struct.unpack("<H", encoded[encoded.index(b"\0\0\0\1\2\0\0\0") + 8 :][:2])[0]
