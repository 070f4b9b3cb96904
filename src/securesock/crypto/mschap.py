"""MSCHAPv2 and its keys (RFC 2759 8, RFC 3079 3): what a password proves, on MD4 and DES of pycryptodome.

Pure functions over bytes.  They are as old as they look: who sees a challenge and its response finds the password's
hash by trying all DES keys, so that both may only travel inside a tunnel to a proven peer.  pycryptodome comes with the
extra ``securesock[eap]`` and is imported when it is first needed.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import import_module
from typing import Final

from ..errors import LocalMisuse

__all__ = [
    "NT_HASH_LENGTH",
    "authenticator_response",
    "be_ready",
    "challenge_hash",
    "master_session_key",
    "nt_hash",
    "nt_response",
    "require_eap_extra",
]

NT_HASH_LENGTH: Final = 16

# RFC 2759 8.7
_MAGIC_1: Final = b"Magic server to client signing constant"
_MAGIC_2: Final = b"Pad to make it do more than one iteration"
# RFC 3079 3.4
_MAGIC_MASTER: Final = b"This is the MPPE Master Key"
_MAGIC_CLIENT_SENDS: Final = b"On the client side, this is the send key; on the server side, it is the receive key."
_MAGIC_SERVER_SENDS: Final = b"On the client side, this is the receive key; on the server side, it is the send key."
_PAD_1: Final = bytes(40)
_PAD_2: Final = b"\xf2" * 40


def require_eap_extra() -> None:
    """LocalMisuse where the extra is not installed."""
    try:
        import_module("Crypto.Hash.MD4")
    except ImportError:
        raise LocalMisuse(
            "a user's password is proven with MD4, which this machine lacks: install securesock[eap]"
        ) from None


@cache
def be_ready() -> None:
    """Have the library find now what it would look for when it first enciphers; ImportError without the extra."""
    nt_hash(b"")
    nt_response(bytes(8), bytes(NT_HASH_LENGTH))


def _md4(data: bytes) -> bytes:
    from Crypto.Hash import MD4

    return MD4.new(data).digest()


def nt_hash(password: bytes) -> bytes:
    """NtPasswordHash (RFC 2759 8.3) of a password in UTF-8: 16 bytes that are as good as the password."""
    return _md4(password.decode("utf-8").encode("utf-16-le"))


def challenge_hash(peer_challenge: bytes, authenticator_challenge: bytes, user_name: bytes) -> bytes:
    """ChallengeHash (8.2): ``user_name`` without its domain; 8 bytes."""
    return hashlib.sha1(peer_challenge + authenticator_challenge + user_name, usedforsecurity=False).digest()[:8]


def nt_response(challenge: bytes, password_hash: bytes) -> bytes:
    """ChallengeResponse (8.5): three DES encryptions of an 8-byte challenge; 24 bytes."""
    from Crypto.Cipher import DES

    padded = password_hash.ljust(21, b"\0")
    return b"".join(DES.new(_des_key(padded[at : at + 7]), DES.MODE_ECB).encrypt(challenge) for at in range(0, 21, 7))


def _des_key(seven: bytes) -> bytes:
    """7 bytes spread over 8, the lowest bit of each being parity, which DES ignores (8.6)."""
    bits = int.from_bytes(seven, "big")
    return bytes((bits >> 49 - 7 * at & 0x7F) << 1 for at in range(8))


def authenticator_response(password_hash: bytes, response: bytes, challenge: bytes) -> bytes:
    """GenerateAuthenticatorResponse (8.7), the 20 bytes themselves: that the server knows the password too."""
    first = hashlib.sha1(_md4(password_hash) + response + _MAGIC_1, usedforsecurity=False).digest()
    return hashlib.sha1(first + challenge + _MAGIC_2, usedforsecurity=False).digest()


def master_session_key(password_hash: bytes, response: bytes) -> bytes:
    """The MSK of EAP-MSCHAPv2, 64 bytes: the server's receiving key, its sending key, zeros (RFC 3079 3.3)."""
    master = hashlib.sha1(_md4(password_hash) + response + _MAGIC_MASTER, usedforsecurity=False).digest()[:16]
    return _session_key(master, _MAGIC_CLIENT_SENDS) + _session_key(master, _MAGIC_SERVER_SENDS) + bytes(32)


def _session_key(master: bytes, magic: bytes) -> bytes:
    """GetAsymmetricStartKey for 128 bits."""
    return hashlib.sha1(master + _PAD_1 + magic + _PAD_2, usedforsecurity=False).digest()[:16]
