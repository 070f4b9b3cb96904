"""A program that uses the public names with their exact types; mypy --strict and pyright must both accept it.

It is never run.  A public name whose type is Any, or that stops being what it was, fails here first.
"""

from __future__ import annotations

from datetime import datetime
from typing import assert_type
from uuid import UUID

from securesock.errors import AuthenticationFailed, LocalMisuse, PolicyRefused, SecureSocketError, StreamTruncated
from securesock.types import IPsecSettings, Json, Principal, SecurityInfo, SecuritySettings


def describe(info: SecurityInfo) -> str:
    """What a connection's security was."""
    assert_type(info.secured, bool)
    assert_type(info.main_mode_sa_id, int)
    assert_type(info.main_mode_policy, UUID | None)
    assert_type(info.established_at, datetime | None)
    assert_type(info.asked, SecuritySettings)
    assert_type(info.to_dict(), dict[str, Json])
    peer = info.peer_machine
    assert_type(peer, Principal | None)
    return "nobody" if peer is None else peer.name


def settings() -> SecuritySettings:
    """The two kinds of settings."""
    return IPsecSettings(guarantee_encryption=True, user_name="alice", domain_name="EXAMPLE", password=bytearray(b"x"))


def blame(error: SecureSocketError) -> str:
    """Every error is an OSError, sorted by who is to blame."""
    as_system_error: OSError = error
    assert_type(as_system_error.errno, int | None)
    match error:
        case LocalMisuse():
            misuse: ValueError = error
            return str(misuse)
        case PolicyRefused():
            assert_type(error.filter_id, int | None)
            return "policy"
        case StreamTruncated():
            reset: ConnectionResetError = error
            return str(reset)
        case AuthenticationFailed():
            return "peer"
        case _:
            return "somebody"
