"""The types of identification payloads: the one number space of IKEv2's that identities speak, too.

Apart from the others (numbers), so that whoever makes an identity does not wait for the numbers of messages.
Source: IANA "Internet Key Exchange Version 2 (IKEv2) Parameters".
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["IdType"]


class IdType(IntEnum):
    """RFC 7296 3.5."""

    ID_IPV4_ADDR = 1
    ID_FQDN = 2
    ID_RFC822_ADDR = 3
    ID_IPV6_ADDR = 5
    ID_DER_ASN1_DN = 9
    ID_DER_ASN1_GN = 10
    ID_KEY_ID = 11
    ID_NULL = 13  # RFC 7619
