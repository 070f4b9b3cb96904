"""Winsock structures against bytes laid out by hand from mstcpip.h, and against callers who get them wrong."""

from __future__ import annotations

import copy
import errno
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, replace
from struct import pack, pack_into
from uuid import UUID

import pytest

from securesock.errors import SecureSocketError
from securesock.secret import Secret
from securesock.wire import winsock_numbers as numbers
from securesock.wire.winsock_errors import WSAError, WSAErrorCode
from securesock.wire.winsock_fields import read_sockaddr_untrusted
from securesock.wire.winsock_numbers import (
    ERROR_IPSEC_IKE,
    SIO_DELETE_PEER_TARGET_NAME,
    SIO_QUERY_SECURITY,
    SIO_QUERY_WFP_ALE_ENDPOINT_HANDLE,
    SIO_SET_PEER_TARGET_NAME,
    SIO_SET_SECURITY,
    SIO_SOCKET_USAGE_NOTIFICATION,
    SOCKET_INFO_CONNECTION_ENCRYPTED,
    SOCKET_INFO_CONNECTION_IMPERSONATED,
    SOCKET_INFO_CONNECTION_SECURED,
    SOCKET_QUERY_IPSEC2,
    SOCKET_QUERY_IPSEC2_ABORT_CONNECTION_ON_FIELD_CHANGE,
    SOCKET_QUERY_IPSEC2_FIELD_MASK_MM_SA_ID,
    SOCKET_QUERY_IPSEC2_FIELD_MASK_QM_SA_ID,
    SOCKET_SECURITY_PROTOCOL,
    SOCKET_SECURITY_PROTOCOL_DEFAULT,
    SOCKET_SECURITY_PROTOCOL_IPSEC,
    SOCKET_SECURITY_PROTOCOL_IPSEC2,
    SOCKET_SETTINGS,
    SOCKET_SETTINGS_ALLOW_INSECURE,
    SOCKET_SETTINGS_GUARANTEE_ENCRYPTION,
    SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION,
    TOKEN_QUERY,
)
from securesock.wire.winsock_structures import (
    SOCKET_PEER_TARGET_NAME,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_QUERY_INFO_IPSEC2,
    SOCKET_SECURITY_QUERY_TEMPLATE,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
    SOCKET_SECURITY_SETTINGS,
    SOCKET_SECURITY_SETTINGS_IPSEC,
)

KEY = UUID("{b25ea800-0d02-46ed-92bd-7fa84bb73e9d}")
KEY_BYTES = bytes.fromhex("00a85eb2 020d ed46 92bd 7fa84bb73e9d")
IPV4 = bytes.fromhex("0200 6987 c0000201").ljust(128, b"\0")
IPV6 = bytes.fromhex("1700 6987 0000abcd 20010db8000000000000000000000001 07000000").ljust(128, b"\0")
SPN = "host/db.example"


def utf16(text: str) -> bytes:
    return b"".join(pack("<H", ord(character)) for character in text)


def settings_ipsec(protocol: int = 1, lengths: tuple[int, int, int] = (0, 0, 0), tail: bytes = bytes(4)) -> bytes:
    return pack("<III", protocol, 0, 0) + bytes(60) + pack("<III", *lengths) + tail


def target_name(protocol: int, count: int, tail: bytes, address: bytes = bytes(128)) -> bytes:
    return pack("<I4x", protocol) + address + pack("<I", count) + tail


EXACT = {
    "settings": (
        SOCKET_SECURITY_SETTINGS(SOCKET_SECURITY_PROTOCOL_DEFAULT, SOCKET_SETTINGS_GUARANTEE_ENCRYPTION),
        "00000000 01000000",
    ),
    "settings_ipsec": (
        SOCKET_SECURITY_SETTINGS_IPSEC(
            SecurityFlags=SOCKET_SETTINGS_ALLOW_INSECURE,
            IpsecFlags=SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION,
            AuthipMMPolicyKey=KEY,
            UserName="al",
            DomainName="X",
            Password="p€",
        ),
        "01000000 02000000 01000000"
        + KEY_BYTES.hex()
        + "00" * 16  # the quick mode key
        + "00" * 16  # Reserved
        + "00" * 4
        + "00" * 8  # Reserved2
        + "04000000 02000000 04000000 6100 6c00 5800 7000 ac20 00000000",
    ),
    "peer_target_name": (
        SOCKET_PEER_TARGET_NAME(PeerTargetName="a.b"),
        "00000000 00000000" + "00" * 128 + "03000000 6100 2e00 6200 00000000",
    ),
    "peer_target_name_ipsec2": (
        SOCKET_PEER_TARGET_NAME(SOCKET_SECURITY_PROTOCOL_IPSEC2, ("192.0.2.1", 27015), "a.b"),
        "02000000 00000000" + IPV4.hex() + "06000000 6100 2e00 6200 00000000",
    ),
    "query_template": (
        SOCKET_SECURITY_QUERY_TEMPLATE(SOCKET_SECURITY_PROTOCOL_IPSEC, ("2001:db8::1", 27015, 0xABCD, 7), TOKEN_QUERY),
        "01000000 00000000" + IPV6.hex() + "08000000 00000000",
    ),
    "query_template_ipsec2": (
        SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(
            Flags=SOCKET_QUERY_IPSEC2_ABORT_CONNECTION_ON_FIELD_CHANGE,
            FieldMask=SOCKET_QUERY_IPSEC2_FIELD_MASK_MM_SA_ID | SOCKET_QUERY_IPSEC2_FIELD_MASK_QM_SA_ID,
        ),
        "02000000 00000000" + "00" * 128 + "00000000 01000000 03000000 00000000",
    ),
    "query_info": (
        SOCKET_SECURITY_QUERY_INFO(
            SOCKET_SECURITY_PROTOCOL_IPSEC,
            SOCKET_INFO_CONNECTION_SECURED | SOCKET_INFO_CONNECTION_ENCRYPTED,
            0x1F4,
            0x1F8,
        ),
        "01000000 03000000 f401000000000000 f801000000000000",
    ),
    "query_info_ipsec2": (
        SOCKET_SECURITY_QUERY_INFO_IPSEC2(
            Flags=SOCKET_INFO_CONNECTION_IMPERSONATED,
            MmSaId=5,
            QmSaId=1 << 63,
            NegotiationWinerr=ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_AUTH_FAIL,
            SaLookupContext=KEY,
        ),
        "02000000 04000000" + "00" * 16 + "0500000000000000 0000000000000080 e9350000" + KEY_BYTES.hex() + "00000000",
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_structure_is_the_bytes_of_the_header_both_ways(name: str) -> None:
    structure, expected = EXACT[name]
    assert structure.pack() == bytes.fromhex(expected)
    assert type(structure).unpack(bytes.fromhex(expected)) == structure


@pytest.mark.parametrize(
    ("structure", "size"),
    [
        (SOCKET_SECURITY_SETTINGS(), 8),
        (SOCKET_SECURITY_SETTINGS_IPSEC(), 88),
        (SOCKET_SECURITY_SETTINGS_IPSEC(UserName="ab", Password="c"), 94),
        (SOCKET_PEER_TARGET_NAME(), 144),
        (SOCKET_PEER_TARGET_NAME(PeerTargetName=SPN), 174),
        (SOCKET_SECURITY_QUERY_TEMPLATE(), 144),
        (SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(), 152),
        (SOCKET_SECURITY_QUERY_INFO(), 24),
        (SOCKET_SECURITY_QUERY_INFO_IPSEC2(), 64),
    ],
)
def test_sizes_are_sizeof_and_the_strings(structure: SOCKET_SECURITY_SETTINGS, size: int) -> None:
    assert len(structure.pack()) == size
    assert type(structure).unpack(structure.pack()) == structure


@pytest.mark.parametrize("name", EXACT)
def test_any_buffer_is_read_and_what_is_behind_does_not_count(name: str) -> None:
    structure, expected = EXACT[name]
    data = bytes.fromhex(expected) + b"\xff" * 9
    for buffer in (bytearray(data), memoryview(data), memoryview(data).cast("b")):
        assert type(structure).unpack(buffer) == structure


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("buffer", [None, 8, "text", ("a", 1)])
def test_what_is_no_buffer_is_a_fault(name: str, buffer: object) -> None:
    with pytest.raises(WSAError, match="WSAEFAULT"):
        type(EXACT[name][0]).unpack(buffer)


def test_a_released_buffer_is_a_fault() -> None:
    view = memoryview(bytes(8))
    view.release()
    with pytest.raises(WSAError, match="WSAEFAULT"):
        SOCKET_SECURITY_SETTINGS.unpack(view)


@pytest.mark.parametrize(
    ("structure", "least"),
    [
        (SOCKET_SECURITY_SETTINGS, 8),
        (SOCKET_SECURITY_SETTINGS_IPSEC, 84),
        (SOCKET_PEER_TARGET_NAME, 140),
        (SOCKET_SECURITY_QUERY_TEMPLATE, 144),
        (SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2, 152),
        (SOCKET_SECURITY_QUERY_INFO, 24),
        (SOCKET_SECURITY_QUERY_INFO_IPSEC2, 64),
    ],
)
def test_less_than_the_fixed_part_is_too_small(structure: type[SOCKET_SECURITY_SETTINGS], least: int) -> None:
    whole = structure().pack()[:least]
    assert structure.unpack(whole) == structure()
    for length in range(least):
        with pytest.raises(WSAError) as caught:
            structure.unpack(whole[:length])
        assert caught.value.winerror == WSAErrorCode.WSAEMSGSIZE


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("protocol", [3, 4, 0x80000000, 0xFFFFFFFF])
def test_a_protocol_that_is_none_is_invalid(name: str, protocol: int) -> None:
    data = bytearray(EXACT[name][0].pack())
    pack_into("<I", data, 0, protocol)
    with pytest.raises(WSAError) as caught:
        type(EXACT[name][0]).unpack(data)
    assert caught.value.winerror == WSAErrorCode.WSAEINVAL


def test_the_ipsec_settings_do_not_take_the_default_protocol() -> None:
    data = SOCKET_SECURITY_SETTINGS_IPSEC(SecurityProtocol=SOCKET_SECURITY_PROTOCOL_DEFAULT).pack()
    with pytest.raises(WSAError, match=r"WSAEINVAL.*not _DEFAULT"):
        SOCKET_SECURITY_SETTINGS_IPSEC.unpack(data)


def test_the_ipsec2_template_takes_no_other_protocol() -> None:
    with pytest.raises(WSAError, match="WSAEINVAL"):
        SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2.unpack(pack("<I", 1) + bytes(148))


def test_the_first_form_is_a_prefix_of_the_second() -> None:
    template = SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(PeerTokenAccessMask=8, Flags=SOCKET_QUERY_IPSEC2(1))
    assert SOCKET_SECURITY_QUERY_TEMPLATE.unpack(template.pack()) == SOCKET_SECURITY_QUERY_TEMPLATE(
        SOCKET_SECURITY_PROTOCOL_IPSEC2, None, 8
    )
    info = SOCKET_SECURITY_QUERY_INFO_IPSEC2(Flags=SOCKET_INFO_CONNECTION_SECURED, MmSaId=9)
    assert SOCKET_SECURITY_QUERY_INFO.unpack(info.pack()) == SOCKET_SECURITY_QUERY_INFO(
        SOCKET_SECURITY_PROTOCOL_IPSEC2, SOCKET_INFO_CONNECTION_SECURED
    )
    settings = SOCKET_SECURITY_SETTINGS_IPSEC(SecurityFlags=SOCKET_SETTINGS_ALLOW_INSECURE)
    assert SOCKET_SECURITY_SETTINGS.unpack(settings.pack()) == SOCKET_SECURITY_SETTINGS(
        SOCKET_SECURITY_PROTOCOL_IPSEC, SOCKET_SETTINGS_ALLOW_INSECURE
    )


def test_reserved_fields_and_padding_are_ignored_when_read_and_zero_when_written() -> None:
    clean = settings_ipsec()
    soiled = bytearray(clean)
    soiled[44:72] = b"\xff" * 28
    assert SOCKET_SECURITY_SETTINGS_IPSEC.unpack(soiled) == SOCKET_SECURITY_SETTINGS_IPSEC()
    assert SOCKET_SECURITY_SETTINGS_IPSEC.unpack(soiled).pack() == clean
    for structure, holes in (
        (SOCKET_PEER_TARGET_NAME, [(4, 8), (140, 144)]),
        (SOCKET_SECURITY_QUERY_TEMPLATE, [(4, 8), (140, 144)]),
        (SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2, [(4, 8), (148, 152)]),
        (SOCKET_SECURITY_QUERY_INFO_IPSEC2, [(60, 64)]),
    ):
        soiled = bytearray(structure().pack())
        for start, end in holes:
            soiled[start:end] = b"\xff" * (end - start)
        assert structure.unpack(soiled) == structure()


def test_flags_of_a_later_windows_survive() -> None:
    settings = SOCKET_SECURITY_SETTINGS.unpack(pack("<II", 1, 0x80000001))
    assert settings.SecurityFlags == 0x80000001
    assert SOCKET_SETTINGS_GUARANTEE_ENCRYPTION in settings.SecurityFlags
    assert settings.pack() == pack("<II", 1, 0x80000001)


# -- strings -----------------------------------------------------------------------------------------------------------


def test_strings_come_in_order_without_terminators_and_without_slack() -> None:
    tail = utf16("alice") + utf16("EXAMPLE") + utf16("pw")
    settings = SOCKET_SECURITY_SETTINGS_IPSEC.unpack(settings_ipsec(2, (10, 14, 4), tail))
    assert (settings.UserName, settings.DomainName, settings.Password) == ("alice", "EXAMPLE", "pw")


@pytest.mark.parametrize(
    "lengths",
    [
        (9, 0, 0),
        (0, 0, 9),
        (4, 4, 2),
        (0xFFFFFFFE, 0, 0),
        (0x80000000, 0x80000000, 0),  # a sum that is 0 in 32 bits
        (0xFFFFFFFC, 2, 2),
        (1, 0, 0),
        (3, 1, 0),
        (0, 7, 0),
        (0, 0, 5),
    ],
)
def test_lengths_that_overrun_overflow_or_are_odd_are_invalid(lengths: tuple[int, int, int]) -> None:
    with pytest.raises(WSAError) as caught:
        SOCKET_SECURITY_SETTINGS_IPSEC.unpack(settings_ipsec(1, lengths, utf16("abcd")))
    assert caught.value.winerror == WSAErrorCode.WSAEINVAL


@pytest.mark.parametrize("tail", [b"\x00\xd8", b"\x00\xdc", b"\x00\xdc\x00\xd8", b"\x00\xd8a\x00"])
def test_half_a_surrogate_pair_is_invalid_and_the_error_does_not_hold_it(tail: bytes) -> None:
    with pytest.raises(WSAError, match="WSAEINVAL") as caught:
        SOCKET_SECURITY_SETTINGS_IPSEC.unpack(settings_ipsec(1, (0, 0, len(tail)), tail))
    assert caught.value.__suppress_context__
    with pytest.raises(WSAError, match="WSAEINVAL"):
        SOCKET_PEER_TARGET_NAME.unpack(target_name(2, len(tail), tail))


def test_a_surrogate_pair_is_two_units() -> None:
    name = SOCKET_PEER_TARGET_NAME(PeerTargetName="a\U0001f600")
    assert name.pack()[136:140] == pack("<I", 3)
    assert SOCKET_PEER_TARGET_NAME.unpack(name.pack()) == name


@pytest.mark.parametrize("protocol", [0, 1])
def test_the_first_forms_name_is_counted_in_characters(protocol: int) -> None:
    data = target_name(protocol, len(SPN), utf16(SPN))
    assert SOCKET_PEER_TARGET_NAME.unpack(data).PeerTargetName == SPN
    with pytest.raises(WSAError, match=r"WSAEINVAL.*counts characters"):
        SOCKET_PEER_TARGET_NAME.unpack(target_name(protocol, 2 * len(SPN), utf16(SPN) + bytes(4)))


def test_the_second_forms_name_is_counted_in_bytes() -> None:
    data = target_name(2, 2 * len(SPN), utf16(SPN))
    assert SOCKET_PEER_TARGET_NAME.unpack(data).PeerTargetName == SPN
    assert SOCKET_PEER_TARGET_NAME.unpack(data).pack() == data + bytes(4)
    # What a caller who counts characters gets is a wrong name, or none: it cannot be told from a shorter one.
    with pytest.raises(WSAError, match="WSAEINVAL"):
        SOCKET_PEER_TARGET_NAME.unpack(target_name(2, len(SPN), utf16(SPN)))


@pytest.mark.parametrize(("protocol", "count"), [(1, 0x80000000), (1, 0x80000001), (1, 4), (2, 8), (2, 0xFFFFFFFF)])
def test_a_name_that_overruns_is_invalid(protocol: int, count: int) -> None:
    with pytest.raises(WSAError) as caught:
        SOCKET_PEER_TARGET_NAME.unpack(target_name(protocol, count, utf16("abc")))
    assert caught.value.winerror == WSAErrorCode.WSAEINVAL


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, None),
        (("0.0.0.0", 0), ("0.0.0.0", 0)),
        (("192.0.2.1", 65535), ("192.0.2.1", 65535)),
        (("::1", 5), ("::1", 5, 0, 0)),
        (("2001:DB8:0::1", 5, 6), ("2001:db8::1", 5, 6, 0)),
        (("fe80::1", 5, 0xFFFFFFFF, 0xFFFFFFFF), ("fe80::1", 5, 0xFFFFFFFF, 0xFFFFFFFF)),
    ],
)
def test_addresses_have_one_form(given: tuple[str, int] | None, kept: tuple[object, ...] | None) -> None:
    name = SOCKET_PEER_TARGET_NAME(PeerAddress=given)
    assert name.PeerAddress == kept
    assert SOCKET_PEER_TARGET_NAME.unpack(name.pack()) == name


@pytest.mark.parametrize(
    "address",
    [
        ("db.example", 1),
        ("192.0.2.1",),
        ("192.0.2.1", 65536),
        ("192.0.2.1", -1),
        ("192.0.2.1", "1"),
        ("192.0.2.1", 1, 0, 0),
        ("::1", 1, 0, 0, 0),
        ("::1", 1, 1 << 32, 0),
        ("::1", 1, 0, -1),
        ("fe80::1%1", 1, 0, 0),
        (b"::1", 1),
        "192.0.2.1",
        ["192.0.2.1", 1],
    ],
)
def test_addresses_that_no_sockaddr_holds_are_invalid(address: tuple[str, int]) -> None:
    for structure in (SOCKET_PEER_TARGET_NAME, SOCKET_SECURITY_QUERY_TEMPLATE, SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2):
        with pytest.raises(WSAError) as caught:
            structure(PeerAddress=address)
        assert caught.value.winerror == WSAErrorCode.WSAEINVAL


def test_other_address_families_are_not_supported() -> None:
    for family in (1, 10, 17, 0xFFFF):  # 10 is Linux's AF_INET6, which is not Windows'
        for name in ("peer_target_name", "query_template", "query_template_ipsec2"):
            data = bytearray(EXACT[name][0].pack())
            pack_into("<H", data, 8, family)
            with pytest.raises(WSAError) as caught:
                type(EXACT[name][0]).unpack(data)
            assert caught.value.winerror == WSAErrorCode.WSAEAFNOSUPPORT


def test_a_family_of_zero_is_no_address_whatever_follows() -> None:
    assert SOCKET_PEER_TARGET_NAME.unpack(target_name(0, 0, b"", b"\0\0" + b"\xff" * 126)).PeerAddress is None


@pytest.mark.parametrize(("whole", "length"), [(IPV4, 16), (IPV6, 28), (bytes(128), 2)])
def test_a_sockaddr_may_have_its_familys_length_and_not_less(whole: bytes, length: int) -> None:
    assert read_sockaddr_untrusted(whole[:length], "it") == read_sockaddr_untrusted(whole, "it")
    for short in range(length):
        with pytest.raises(WSAError) as caught:
            read_sockaddr_untrusted(whole[:short], "it")
        assert caught.value.winerror == WSAErrorCode.WSAEMSGSIZE


# -- values that do not fit --------------------------------------------------------------------------------------------

MISFITS: dict[str, Callable[[], object]] = {
    "a protocol": lambda: SOCKET_SECURITY_SETTINGS(77),
    "no protocol": lambda: SOCKET_SECURITY_SETTINGS(None),
    "flags of 33 bits": lambda: SOCKET_SECURITY_SETTINGS(SecurityFlags=1 << 32),
    "negative flags": lambda: SOCKET_SECURITY_SETTINGS_IPSEC(IpsecFlags=-1),
    "a key as text": lambda: SOCKET_SECURITY_SETTINGS_IPSEC(AuthipQMPolicyKey=str(KEY)),
    "a name as bytes": lambda: SOCKET_SECURITY_SETTINGS_IPSEC(UserName=b"a"),
    "half a character": lambda: SOCKET_SECURITY_SETTINGS_IPSEC(DomainName="\ud800"),
    "a password as number": lambda: SOCKET_SECURITY_SETTINGS_IPSEC(Password=1),
    "a password of half a character": lambda: SOCKET_SECURITY_SETTINGS_IPSEC(Password="\udc00"),
    "a password that is no UTF-8": lambda: SOCKET_SECURITY_SETTINGS_IPSEC(Password=b"\xff"),
    "no peer name": lambda: SOCKET_PEER_TARGET_NAME(PeerTargetName=None),
    "a mask of 33 bits": lambda: SOCKET_SECURITY_QUERY_TEMPLATE(PeerTokenAccessMask=1 << 32),
    "a handle of 65 bits": lambda: SOCKET_SECURITY_QUERY_INFO(PeerMachineAccessTokenHandle=1 << 64),
    "a negative SA id": lambda: SOCKET_SECURITY_QUERY_INFO_IPSEC2(QmSaId=-1),
    "an SA id as text": lambda: SOCKET_SECURITY_QUERY_INFO_IPSEC2(MmSaId="1"),
    "a context as bytes": lambda: SOCKET_SECURITY_QUERY_INFO_IPSEC2(SaLookupContext=bytes(16)),
}


@pytest.mark.parametrize("name", MISFITS)
def test_values_that_do_not_fit_are_invalid_when_they_are_given(name: str) -> None:
    with pytest.raises(WSAError) as caught:
        MISFITS[name]()
    assert caught.value.winerror == WSAErrorCode.WSAEINVAL


def test_plain_numbers_become_members() -> None:
    assert isinstance(SOCKET_SECURITY_SETTINGS(1, 2).SecurityProtocol, SOCKET_SECURITY_PROTOCOL)
    assert isinstance(SOCKET_SECURITY_SETTINGS(1, 2).SecurityFlags, SOCKET_SETTINGS)


# -- the password ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["pass€", "pass€".encode(), bytearray("pass€".encode()), Secret("pass€")])
def test_a_password_may_be_text_bytes_or_a_secret(password: str | bytes | bytearray | Secret) -> None:
    assert SOCKET_SECURITY_SETTINGS_IPSEC(Password=password).Password == "pass€"


def test_a_password_is_not_shown_compared_or_copied_but_packed() -> None:
    settings = SOCKET_SECURITY_SETTINGS_IPSEC(UserName="alice", Password="secret")
    assert "secret" not in repr(settings)
    assert "secret" not in str(asdict(settings))
    assert settings == SOCKET_SECURITY_SETTINGS_IPSEC(UserName="alice")
    for twin in (copy.copy(settings), replace(settings, UserName="bob"), pickle.loads(pickle.dumps(settings))):
        assert twin.Password == ""
    assert utf16("secret") in settings.pack()
    assert SOCKET_SECURITY_SETTINGS_IPSEC.unpack(settings.pack()).Password == "secret"


def test_a_wiped_password_is_gone() -> None:
    settings = SOCKET_SECURITY_SETTINGS_IPSEC(Password="secret")
    settings.wipe()
    assert settings.Password == ""
    assert settings.pack() == SOCKET_SECURITY_SETTINGS_IPSEC().pack()


def test_structures_are_frozen() -> None:
    for structure, _ in EXACT.values():
        with pytest.raises(FrozenInstanceError):
            structure.SecurityProtocol = SOCKET_SECURITY_PROTOCOL_IPSEC


# -- numbers and errors ------------------------------------------------------------------------------------------------


def test_every_member_is_a_name_of_the_module_too() -> None:
    for kind in vars(numbers).values():
        if isinstance(kind, type) and issubclass(kind, int) and kind.__module__ == numbers.__name__:
            for member in kind:
                assert getattr(numbers, member.name) is member
                assert member.name in numbers.__all__


def test_control_codes_are_composed_as_the_macros_do() -> None:
    ioc_in, ioc_out, vendor = 0x80000000, 0x40000000, 0x18000000
    assert ioc_in | vendor | 200 == SIO_SET_SECURITY
    assert ioc_in | ioc_out | vendor | 201 == SIO_QUERY_SECURITY
    assert ioc_in | vendor | 202 == SIO_SET_PEER_TARGET_NAME
    assert ioc_in | vendor | 203 == SIO_DELETE_PEER_TARGET_NAME
    assert ioc_in | vendor | 204 == SIO_SOCKET_USAGE_NOTIFICATION
    assert ioc_out | vendor | 205 == SIO_QUERY_WFP_ALE_ENDPOINT_HANDLE


@pytest.mark.parametrize("code", WSAErrorCode)
def test_errors_have_both_numbers_and_survive_pickle(code: WSAErrorCode) -> None:
    error = WSAError(code, "what happened", needed_length=24)
    assert isinstance(error, SecureSocketError)
    assert str(error) == f"{code.name} ({int(code)}): what happened"
    for each in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(each) is WSAError
        assert each.winerror == code
        assert each.errno
        assert each.needed_length == 24
        assert str(each) == str(error)


def test_a_code_that_only_windows_has_told_is_kept() -> None:
    for error in (WSAError(1332, "whose SID"), pickle.loads(pickle.dumps(WSAError(1332, "whose SID")))):
        assert error.winerror == 1332
        assert error.errno == errno.EIO
        assert str(error) == "Windows error (1332): whose SID"
