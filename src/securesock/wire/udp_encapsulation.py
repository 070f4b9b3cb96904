"""IKE and ESP on one UDP port (RFC 3948, RFC 7296 2.23): what a datagram is, by its first bytes.

    ff                         NAT keepalive, which is dropped
    0000 0000 | IKE message    the non-ESP marker stands where an ESP packet has its SPI
    SPI, not 0 ...             an ESP packet

On port 500 IKE messages have no marker, and ESP never comes.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from ..errors import WireError
from .esp import ESP_HEADER_LENGTH
from .tcp_encapsulation import NON_ESP_MARKER

__all__ = ["IKE_PORT", "NAT_KEEPALIVE", "NAT_TRAVERSAL_PORT", "DatagramKind", "classify_datagram_untrusted"]

IKE_PORT: Final = 500
NAT_TRAVERSAL_PORT: Final = 4500

NAT_KEEPALIVE: Final = b"\xff"
"""RFC 3948 2.3: one byte, never answered."""


class DatagramKind(Enum):
    """What a datagram on a port with markers holds."""

    IKE = "ike"
    ESP = "esp"
    KEEPALIVE = "keepalive"


def classify_datagram_untrusted(datagram: bytes | memoryview) -> DatagramKind:
    """What ``datagram`` is; the IKE message of one is datagram[4:].  WireError for what is none of the three."""
    if len(datagram) >= ESP_HEADER_LENGTH:
        return DatagramKind.IKE if datagram[:4] == NON_ESP_MARKER else DatagramKind.ESP
    if datagram == NAT_KEEPALIVE:
        return DatagramKind.KEEPALIVE
    raise WireError(f"datagram: {len(datagram)} bytes")
