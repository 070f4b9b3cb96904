"""The structures against a C compiler for Windows: mingw-w64's own mstcpip.h, and what its header does not have yet.

The compiler judges: our offsets, sizes and numbers are static assertions in a C file, which compiles only if all hold.
Offsets are measured on our bytes: where they differ once a field does.  mingw-w64 has the first forms of the
structures alone, so the IPSEC2 forms are declared in the test in the order of the SDK's header.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from securesock.wire import winsock_numbers as numbers
from securesock.wire.winsock_errors import WSAErrorCode
from securesock.wire.winsock_fields import pack_sockaddr_storage
from securesock.wire.winsock_structures import (
    SOCKET_PEER_TARGET_NAME,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_QUERY_INFO_IPSEC2,
    SOCKET_SECURITY_QUERY_TEMPLATE,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
    SOCKET_SECURITY_SETTINGS,
    SOCKET_SECURITY_SETTINGS_IPSEC,
)

COMPILER = "x86_64-w64-mingw32-gcc"
pytestmark = pytest.mark.needs_program(COMPILER)

# Lean: without OLE, printing and the shell, which are half of what a compiler reads.
HEADERS = """\
#define _WIN32_WINNT 0x0A00
#define NTDDI_VERSION 0x0A000000
#define WIN32_LEAN_AND_MEAN
#include <winsock2.h>
#include <mstcpip.h>
#include <ws2tcpip.h>
#include <windows.h>
#include <stddef.h>
typedef struct {
    SOCKET_SECURITY_PROTOCOL SecurityProtocol; SOCKADDR_STORAGE PeerAddress; ULONG PeerTokenAccessMask;
    ULONG Flags; ULONG FieldMask;
} SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2;
typedef struct {
    SOCKET_SECURITY_PROTOCOL SecurityProtocol; ULONG Flags; UINT64 PeerApplicationAccessTokenHandle;
    UINT64 PeerMachineAccessTokenHandle; UINT64 MmSaId; UINT64 QmSaId; UINT32 NegotiationWinerr; GUID SaLookupContext;
} SOCKET_SECURITY_QUERY_INFO_IPSEC2;
"""
# Every bit of a field that can be set: where the bytes differ from the default's is where the field lies.
ALL_ONES = {
    "AuthipMMPolicyKey": UUID(int=(1 << 128) - 1),
    "AuthipQMPolicyKey": UUID(int=(1 << 128) - 1),
    "SaLookupContext": UUID(int=(1 << 128) - 1),
    "PeerAddress": ("ff00::", 0xFFFF),
    "PeerApplicationAccessTokenHandle": (1 << 64) - 1,
    "PeerMachineAccessTokenHandle": (1 << 64) - 1,
    "MmSaId": (1 << 64) - 1,
    "QmSaId": (1 << 64) - 1,
    "UserName": "x",
    "DomainName": "x",
    "Password": "x",
    "PeerTargetName": "x",
}
# What C calls the length of a string that Python has as a value.
LENGTHS = {
    "UserName": "UserNameStringLen",
    "DomainName": "DomainNameStringLen",
    "Password": "PasswordStringLen",
    "PeerTargetName": "PeerTargetNameStringLen",
}
FIELDS = {
    SOCKET_SECURITY_SETTINGS: ("SecurityFlags",),
    SOCKET_SECURITY_SETTINGS_IPSEC: (
        "SecurityFlags",
        "IpsecFlags",
        "AuthipMMPolicyKey",
        "AuthipQMPolicyKey",
        "UserName",
        "DomainName",
        "Password",
    ),
    SOCKET_PEER_TARGET_NAME: ("PeerAddress", "PeerTargetName"),
    SOCKET_SECURITY_QUERY_TEMPLATE: ("PeerAddress", "PeerTokenAccessMask"),
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2: ("PeerAddress", "PeerTokenAccessMask", "Flags", "FieldMask"),
    SOCKET_SECURITY_QUERY_INFO: ("Flags", "PeerApplicationAccessTokenHandle", "PeerMachineAccessTokenHandle"),
    SOCKET_SECURITY_QUERY_INFO_IPSEC2: (
        "Flags",
        "PeerApplicationAccessTokenHandle",
        "PeerMachineAccessTokenHandle",
        "MmSaId",
        "QmSaId",
        "NegotiationWinerr",
        "SaLookupContext",
    ),
}


def differing(structure: type[SOCKET_SECURITY_SETTINGS], field: str) -> list[int]:
    """Where the bytes differ once ``field`` is all ones (a string: one character)."""
    zero = structure().pack()
    changed = structure(**{field: ALL_ONES.get(field, 0xFFFFFFFF)}).pack()
    return [position for position, byte in enumerate(zero) if changed[position] != byte]


def layout() -> list[str]:
    """An assertion for every size and every offset that our bytes have."""
    lines = []
    for structure, names in FIELDS.items():
        name = structure.__name__
        lines.append(f"sizeof({name}) == {len(structure().pack())}")
        lines.append(f"offsetof({name}, SecurityProtocol) == 0")
        for field in names:
            where = differing(structure, field)
            in_c = LENGTHS.get(field, field)
            lines.append(f"offsetof({name}, {in_c}) == {where[0]}")
            if field not in LENGTHS and field != "PeerAddress":
                lines.append(f"sizeof((({name} *)0)->{in_c}) == {where[-1] - where[0] + 1}")
    for structure, field in ((SOCKET_SECURITY_SETTINGS_IPSEC, "UserName"), (SOCKET_PEER_TARGET_NAME, "PeerTargetName")):
        begins = structure(**{field: "\uffff"}).pack().index(b"\xff\xff")
        lines.append(f"offsetof({structure.__name__}, AllStrings) == {begins}")
    return lines


def sockaddrs() -> list[str]:
    """An assertion for each part of an address."""
    zero = pack_sockaddr_storage(None)

    def first(*address: object, skip: int = 2) -> int:
        changed = pack_sockaddr_storage(address)
        return next(i for i in range(skip, len(zero)) if changed[i] != zero[i])

    return [
        f"sizeof(SOCKADDR_STORAGE) == {len(zero)}",
        f"AF_INET == {pack_sockaddr_storage(('0.0.0.0', 0))[0]}",
        f"AF_INET6 == {pack_sockaddr_storage(('::', 0, 0, 0))[0]}",
        f"offsetof(SOCKADDR_IN, sin_port) == {first('0.0.0.0', 0xFFFF)}",
        f"offsetof(SOCKADDR_IN, sin_addr) == {first('255.0.0.0', 0)}",
        f"offsetof(struct sockaddr_in6, sin6_port) == {first('::', 0xFFFF, 0, 0)}",
        f"offsetof(struct sockaddr_in6, sin6_flowinfo) == {first('::', 0, 0xFFFFFFFF, 0)}",
        f"offsetof(struct sockaddr_in6, sin6_addr) == {first('ff00::', 0, 0, 0)}",
        f"offsetof(struct sockaddr_in6, sin6_scope_id) == {first('::', 0, 0, 0xFF)}",
    ]


def constants() -> list[str]:
    """An assertion for each number that mingw-w64's headers know."""
    known = [*numbers.SOCKET_SECURITY_PROTOCOL, *numbers.SOCKET_SETTINGS, *numbers.SOCKET_INFO_CONNECTION]
    known += [*numbers.TOKEN_RIGHTS, *numbers.ERROR_IPSEC_IKE, *WSAErrorCode]
    known.append(numbers.SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION)
    lines = [f"{member.name} == {int(member)}" for member in known]
    control = [
        ("_WSAIOW", 200, numbers.SIO_SET_SECURITY),
        ("_WSAIORW", 201, numbers.SIO_QUERY_SECURITY),
        ("_WSAIOW", 202, numbers.SIO_SET_PEER_TARGET_NAME),
        ("_WSAIOW", 203, numbers.SIO_DELETE_PEER_TARGET_NAME),
        ("_WSAIOW", 204, numbers.SIO_SOCKET_USAGE_NOTIFICATION),
        ("_WSAIOR", 205, numbers.SIO_QUERY_WFP_ALE_ENDPOINT_HANDLE),
        ("_WSAIOW", 220, numbers.SIO_QUERY_WFP_CONNECTION_REDIRECT_RECORDS),
        ("_WSAIOW", 221, numbers.SIO_QUERY_WFP_CONNECTION_REDIRECT_CONTEXT),
        ("_WSAIOW", 222, numbers.SIO_SET_WFP_CONNECTION_REDIRECT_RECORDS),
    ]
    return lines + [f"(unsigned){macro}(IOC_VENDOR, {number}) == {code:#x}u" for macro, number, code in control]


def compile_assertions(folder: Path, assertions: list[str]) -> subprocess.CompletedProcess[str]:
    source = folder / "layout.c"
    source.write_text(HEADERS + "".join(f'_Static_assert({each}, "{each}");\n' for each in assertions))
    command = [COMPILER, "-std=c11", "-fsyntax-only", str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("assertions", [layout, sockaddrs, constants])
def test_a_windows_compiler_agrees_with_our_bytes(assertions: Callable[[], list[str]], tmp_path: Path) -> None:
    lines = assertions()
    done = compile_assertions(tmp_path, lines)
    assert done.returncode == 0, done.stderr
    assert len(lines) >= 9


def test_the_compiler_would_object(tmp_path: Path) -> None:
    done = compile_assertions(tmp_path, ["sizeof(SOCKET_SECURITY_SETTINGS_IPSEC) == 80"])
    assert done.returncode != 0
    assert "static assertion failed" in done.stderr
