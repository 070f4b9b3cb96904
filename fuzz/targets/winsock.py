"""The structures that a program hands to the Winsock functions, as bytes.

What was unpacked must pack, to bytes that unpack to the same value and pack to themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fuzz.registry import fuzz_target
from fuzz.targets.wire import expect
from securesock.wire.winsock_errors import WSAError
from securesock.wire.winsock_fields import read_sockaddr_untrusted
from securesock.wire.winsock_structures import (
    SOCKET_PEER_TARGET_NAME,
    SOCKET_SECURITY_QUERY_INFO,
    SOCKET_SECURITY_QUERY_INFO_IPSEC2,
    SOCKET_SECURITY_QUERY_TEMPLATE,
    SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2,
    SOCKET_SECURITY_SETTINGS,
    SOCKET_SECURITY_SETTINGS_IPSEC,
)


class Structure(Protocol):
    def pack(self) -> bytes: ...


def register(name: str, unpack: Callable[[bytes], Structure]) -> None:
    @fuzz_target(name=name, allowed=(WSAError,))
    def structure(data: bytes) -> None:
        value = unpack(data)
        packed = value.pack()
        again = unpack(packed)
        expect(again == value, (value, again))
        expect(again.pack() == packed, packed)


register("winsock_settings", SOCKET_SECURITY_SETTINGS.unpack)
register("winsock_settings_ipsec", SOCKET_SECURITY_SETTINGS_IPSEC.unpack)
register("winsock_peer_target_name", SOCKET_PEER_TARGET_NAME.unpack)
register("winsock_query_template", SOCKET_SECURITY_QUERY_TEMPLATE.unpack)
register("winsock_query_template_ipsec2", SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2.unpack)
register("winsock_query_info", SOCKET_SECURITY_QUERY_INFO.unpack)
register("winsock_query_info_ipsec2", SOCKET_SECURITY_QUERY_INFO_IPSEC2.unpack)


@fuzz_target(allowed=(WSAError,))
def winsock_sockaddr(data: bytes) -> None:
    read_sockaddr_untrusted(data, "PeerAddr")
