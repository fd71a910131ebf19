"""The rules of who may open an association."""

from typing import Any

import pytest

from plugin.listener.access_control import REJECTIONS, AssociationRequest, Refusal, check_connection, check_request
from plugin.settings.sections import ListenerSettings

SENDERS = [
    {"ae_title": "MR1", "networks": ["192.0.2.0/24", "2001:db8::/32"]},
    {"ae_title": "MR2", "networks": ["192.0.2.7"]},
    {"ae_title": "MR3", "networks": ["198.51.100.0/24"]},
]


def refusal(calling: str, address: str = "192.0.2.7", called: str = "GLIONODE", **settings: Any) -> Refusal | None:
    return check_request(ListenerSettings(**settings), AssociationRequest(calling, called, address))


@pytest.mark.parametrize(
    ("calling", "address", "allowed"),
    [
        ("MR1", "192.0.2.200", True),
        ("MR1 ", "192.0.2.200", True),
        ("MR1", "2001:db8::1", True),
        ("MR1", "::ffff:192.0.2.200", True),
        ("MR1", "198.51.100.1", False),
        ("MR1", "fe80::1%eth0", False),
        ("MR2", "192.0.2.7", True),
        ("MR2", "192.0.2.8", False),
        ("mr1", "192.0.2.7", False),
        ("", "192.0.2.7", False),
    ],
)
def test_a_sender_is_accepted_from_its_networks_only(calling: str, address: str, allowed: bool) -> None:
    assert (refusal(calling, address, senders=SENDERS) is None) is allowed


def test_without_rules_every_title_is_accepted_and_with_one_only_those_listed() -> None:
    assert refusal("ANY") is None
    assert refusal("ANY", calling_ae_titles=("MR4",)) is Refusal.CALLING_AE_TITLE
    assert refusal("ANY", senders=SENDERS) is Refusal.CALLING_AE_TITLE


def test_a_title_without_networks_is_accepted_from_any_address() -> None:
    assert refusal("MR4", "203.0.113.1", calling_ae_titles=("MR4",), senders=SENDERS) is None
    assert refusal("MR1", "203.0.113.1", calling_ae_titles=("MR4",), senders=SENDERS) is Refusal.CALLING_AE_TITLE


def test_the_called_title_is_checked_unless_switched_off() -> None:
    assert refusal("MR1", called="OTHER") is Refusal.CALLED_AE_TITLE
    assert refusal("MR1", called="GLIONODE  ") is None
    assert refusal("MR1", called="OTHER", check_called_ae_title=False) is None


@pytest.mark.parametrize(
    ("settings", "address", "expected"),
    [
        ({}, "203.0.113.1", None),
        ({"senders": SENDERS}, "203.0.113.1", Refusal.ADDRESS),
        ({"senders": SENDERS}, "198.51.100.9", None),
        ({"senders": [*SENDERS, {"ae_title": "ROVER"}]}, "203.0.113.1", None),
        ({"senders": SENDERS, "calling_ae_titles": ("MR4",)}, "203.0.113.1", None),
    ],
)
def test_an_address_is_refused_if_no_title_is_allowed_from_it(
    settings: dict[str, Any], address: str, expected: Refusal | None
) -> None:
    assert check_connection(ListenerSettings(**settings), address, 1, 1) is expected


@pytest.mark.parametrize(
    ("connections", "of_peer", "expected"),
    [
        (6, 4, None),
        (7, 1, Refusal.TOO_MANY_ASSOCIATIONS),
        (6, 5, Refusal.TOO_MANY_OF_PEER),
        (13, 1, Refusal.TOO_MANY_CONNECTIONS),
        (9, 9, Refusal.TOO_MANY_CONNECTIONS),
    ],
)
def test_connections_are_limited_in_total_and_per_address(
    connections: int, of_peer: int, expected: Refusal | None
) -> None:
    settings = ListenerSettings(max_associations=6, max_associations_per_peer=4)
    assert check_connection(settings, "192.0.2.1", connections, of_peer) is expected


def test_each_refusal_of_a_request_has_a_valid_rejection() -> None:
    for reason in (Refusal.CALLING_AE_TITLE, Refusal.CALLED_AE_TITLE, Refusal.TOO_MANY_ASSOCIATIONS):
        result, source, diagnostic = REJECTIONS[reason]
        # PS3.8 table 9-21: the reasons of each source
        assert result in (1, 2)
        assert diagnostic in {1: (1, 2, 3, 7), 2: (1, 2), 3: (1, 2)}[source]
