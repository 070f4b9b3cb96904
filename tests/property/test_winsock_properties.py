"""Winsock structures: every value survives its bytes, and whatever bytes there are, a WSAError is all that is raised.

Truncations and bit flips of known bytes are those of test_every_parser.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from struct import pack

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from securesock.wire.winsock_errors import WSAError, WSAErrorCode
from securesock.wire.winsock_structures import (
    SOCKET_PEER_TARGET_NAME,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_QUERY_INFO_IPSEC2,
    SOCKET_SECURITY_QUERY_TEMPLATE,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
    SOCKET_SECURITY_SETTINGS,
    SOCKET_SECURITY_SETTINGS_IPSEC,
)

STRUCTURES = (
    SOCKET_SECURITY_SETTINGS,
    SOCKET_SECURITY_SETTINGS_IPSEC,
    SOCKET_PEER_TARGET_NAME,
    SOCKET_SECURITY_QUERY_TEMPLATE,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_QUERY_INFO_IPSEC2,
)
DOCUMENTED = {
    WSAErrorCode.WSAEINVAL,
    WSAErrorCode.WSAEMSGSIZE,
    WSAErrorCode.WSAEAFNOSUPPORT,
}

u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
addresses = st.one_of(
    st.none(),
    st.tuples(st.builds(lambda host: str(IPv4Address(host)), u32), u16),
    st.tuples(st.builds(lambda host: str(IPv6Address(host)), st.integers(0, (1 << 128) - 1)), u16, u32, u32),
)
protocols = st.sampled_from([0, 1, 2])
values = st.one_of(
    st.builds(SOCKET_SECURITY_SETTINGS, protocols, u32),
    st.builds(
        SOCKET_SECURITY_SETTINGS_IPSEC, st.sampled_from([1, 2]), u32, u32, st.uuids(), st.uuids(), texts, texts, texts
    ),
    st.builds(SOCKET_PEER_TARGET_NAME, protocols, addresses, texts),
    st.builds(SOCKET_SECURITY_QUERY_TEMPLATE, protocols, addresses, u32),
    st.builds(SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2, st.just(2), addresses, u32, u32, u32),
    st.builds(SOCKET_SECURITY_QUERY_INFO, protocols, u32, u64, u64),
    st.builds(SOCKET_SECURITY_QUERY_INFO_IPSEC2, protocols, u32, u64, u64, u64, u64, u32, st.uuids()),
)


@given(values, st.binary(max_size=8))
def test_every_value_survives_its_bytes(value: SOCKET_SECURITY_SETTINGS, junk: bytes) -> None:
    again = type(value).unpack(value.pack() + junk)
    assert again == value
    assert again.pack() == value.pack()
    if isinstance(value, SOCKET_SECURITY_SETTINGS_IPSEC):
        assert again.Password == value.Password


@pytest.mark.parametrize("structure", STRUCTURES)
@given(protocol=st.integers(0, 4), rest=st.binary(max_size=200))
def test_any_bytes_unpack_or_are_a_documented_error(
    structure: type[SOCKET_SECURITY_SETTINGS], protocol: int, rest: bytes
) -> None:
    data = pack("<I", protocol) + rest
    try:
        value = structure.unpack(data)
    except WSAError as error:
        assert error.winerror in DOCUMENTED
    else:
        assert structure.unpack(value.pack()) == value


@given(u32, u32, u32, st.binary(max_size=40))
@example(0xFFFFFFFF, 1, 0, b"")
@example(0x80000000, 0x80000000, 0, b"abcd")
def test_lengths_are_never_read_beyond_the_buffer(user: int, domain: int, password: int, tail: bytes) -> None:
    data = pack("<III", 1, 0, 0) + bytes(60) + pack("<III", user, domain, password) + tail
    try:
        value = SOCKET_SECURITY_SETTINGS_IPSEC.unpack(data)
    except WSAError as error:
        assert error.winerror == WSAErrorCode.WSAEINVAL
    else:
        assert user + domain + password <= len(tail)
        strings = "".join((value.UserName, value.DomainName, value.Password))
        assert strings.encode("utf-16-le") == tail[: user + domain + password]


@given(protocols, u32, st.binary(max_size=40))
def test_a_names_length_is_never_read_beyond_the_buffer(protocol: int, count: int, tail: bytes) -> None:
    data = pack("<I4x128xI", protocol, count) + tail
    length = count if protocol == 2 else 2 * count
    try:
        value = SOCKET_PEER_TARGET_NAME.unpack(data)
    except WSAError as error:
        assert error.winerror == WSAErrorCode.WSAEINVAL
    else:
        assert value.PeerTargetName.encode("utf-16-le") == tail[:length]
        assert length <= len(tail)
