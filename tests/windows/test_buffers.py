"""Buffers between Python and a C program for Windows: each reads every field of what the other packed.

The program is tests/windows/buffers.c, built by mingw-w64 with its own mstcpip.h and run under wine.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol
from uuid import UUID

import pytest

from securesock import winsock as ws
from tests.support.windows_python import WINE, WindowsPython, compile_for_windows

KEYS = [UUID(fields=(first, 0x1234, 0x5678, 1, 2, 0x030405060708)) for first in (0xAABBCCDD, 0x11223344, 0x55667788)]
ADDRESS = ("2001:db8::2a", 27015, 7, 3)
HANDLES = (0x1122334455667788, 0x99)


class Structure(Protocol):
    """Every structure of the Winsock surface."""

    def pack(self) -> bytes: ...


SETTINGS = ws.SOCKET_SECURITY_SETTINGS_IPSEC(
    ws.SOCKET_SECURITY_PROTOCOL_IPSEC,
    ws.SOCKET_SETTINGS_GUARANTEE_ENCRYPTION,
    ws.SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION,
    KEYS[0],
    KEYS[1],
    "alice",
    "EXAMPLE",
    "päss",
)
# What the C program packs, one of each.
STRUCTURES: tuple[Structure, ...] = (
    ws.SOCKET_SECURITY_SETTINGS(ws.SOCKET_SECURITY_PROTOCOL_DEFAULT, ws.SOCKET_SETTINGS_GUARANTEE_ENCRYPTION),
    SETTINGS,
    ws.SOCKET_PEER_TARGET_NAME(ws.SOCKET_SECURITY_PROTOCOL_IPSEC, ADDRESS, "host/db.example"),
    ws.SOCKET_SECURITY_QUERY_TEMPLATE(
        ws.SOCKET_SECURITY_PROTOCOL_IPSEC, ADDRESS, int(ws.TOKEN_QUERY | ws.TOKEN_IMPERSONATE)
    ),
    ws.SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(
        PeerAddress=ADDRESS,
        PeerTokenAccessMask=int(ws.TOKEN_QUERY),
        Flags=ws.SOCKET_QUERY_IPSEC2_ABORT_CONNECTION_ON_FIELD_CHANGE,
        FieldMask=ws.SOCKET_QUERY_IPSEC2_FIELD_MASK_MM_SA_ID | ws.SOCKET_QUERY_IPSEC2_FIELD_MASK_QM_SA_ID,
    ),
    ws.SOCKET_SECURITY_QUERY_INFO(
        ws.SOCKET_SECURITY_PROTOCOL_IPSEC,
        ws.SOCKET_INFO_CONNECTION_SECURED | ws.SOCKET_INFO_CONNECTION_ENCRYPTED,
        *HANDLES,
    ),
    ws.SOCKET_SECURITY_QUERY_INFO_IPSEC2(
        ws.SOCKET_SECURITY_PROTOCOL_IPSEC2,
        ws.SOCKET_INFO_CONNECTION_SECURED,
        *HANDLES,
        0xA1A2A3A4A5A6A7A8,
        0xB1B2B3B4B5B6B7B8,
        int(ws.ERROR_IPSEC_IKE_AUTH_FAIL),
        KEYS[2],
    ),
)
# More that Python packs: the forms that the C program does not make itself.
FURTHER: tuple[Structure, ...] = (
    ws.SOCKET_PEER_TARGET_NAME(ws.SOCKET_SECURITY_PROTOCOL_IPSEC2, ("192.0.2.7", 500), "host/größe.example"),
    ws.SOCKET_PEER_TARGET_NAME(ws.SOCKET_SECURITY_PROTOCOL_DEFAULT, None, "𝔰"),
    ws.SOCKET_SECURITY_SETTINGS_IPSEC(),
    ws.SOCKET_SECURITY_QUERY_TEMPLATE(PeerAddress=("198.51.100.1", 1)),
)


def fields_of(structure: Structure) -> Iterator[tuple[str, str]]:
    """The lines that the program prints for the same bytes."""
    for name in type(structure).__dataclass_fields__:
        value = getattr(structure, name)
        match value:
            case UUID():
                yield name, value.bytes_le.hex()
            case str():
                yield name, value.encode("utf-16-le").hex()
            case None:
                yield "family", "0"
            case (host, port):
                yield from (("family", "2"), ("port", str(port)), ("host", packed_host(host)))
            case (host, port, flowinfo, scope):
                yield from (("family", "23"), ("port", str(port)), ("host", packed_host(host)))
                yield from (("flowinfo", str(flowinfo)), ("scope", str(scope)))
            case _:
                yield name, str(int(value))
    if isinstance(structure, ws.SOCKET_SECURITY_SETTINGS_IPSEC):
        yield from (("Reserved", bytes(16).hex()), ("Reserved2", "0"))
        yield "Password", structure.Password.encode("utf-16-le").hex()


def packed_host(host: str) -> str:
    return ip_address(host).packed.hex()


@pytest.fixture(scope="module")
def program(windows_python: WindowsPython, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """Runs the C program: what to do, with which structure, what it reads."""
    built = tmp_path_factory.mktemp("buffers") / "buffers.exe"
    compile_for_windows(Path(__file__).with_name("buffers.c"), built, "-static", "-lws2_32")

    def run(what: str, structure: Structure, given: bytes = b"") -> bytes:
        command = [WINE, str(built), what, type(structure).__name__]
        environment = windows_python.environment()
        done = subprocess.run(command, input=given, env=environment, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def name_of(structure: Structure) -> str:
    return type(structure).__name__


@pytest.mark.parametrize("structure", [*STRUCTURES, *FURTHER], ids=name_of)
def test_c_reads_every_field_of_what_python_packed(structure: Structure, program: Callable[..., bytes]) -> None:
    lines = program("print", structure, structure.pack()).decode().splitlines()
    printed = sorted(tuple(line.partition(" ")[::2]) for line in lines)
    assert printed == sorted(fields_of(structure))


@pytest.mark.parametrize("structure", STRUCTURES, ids=name_of)
def test_python_reads_every_field_of_what_c_packed(structure: Structure, program: Callable[..., bytes]) -> None:
    packed = program("pack", structure)
    assert packed == structure.pack()
    unpacked = type(structure).unpack(packed)
    assert unpacked == structure
    if isinstance(unpacked, ws.SOCKET_SECURITY_SETTINGS_IPSEC):
        assert unpacked.Password == SETTINGS.Password
