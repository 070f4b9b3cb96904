"""A post-quantum preshared key: a secret mixed into the keys beside whatever proves the peers (RFC 8784).

It proves nobody by itself.  Whoever records the key exchange and breaks it one day still lacks this.  How it is agreed
on is keying's business.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NoReturn

from ..errors import LocalMisuse
from ..secret import Secret
from .names import parse_peer_target_name, printable

__all__ = ["Ppk"]

MIN_PPK_BYTES: Final = 32
"""RFC 8784 6: at least 256 bits of entropy, half of which a quantum computer leaves."""

MAX_ID: Final = 255


class Ppk:
    """One such key: frozen, shown by its id alone, never pickled.

    ``id``: what names it on the wire, text or bytes; RFC 8784 5.1 recommends base64's characters.
    ``secret``: 32 bytes at least (secrets.token_bytes(32)).
    ``mandatory``: no connection without it; optional lets a peer that does not have it go on as if there were none.
    ``peers``: the peer target names that it is shared with; empty = whoever knows it.
    LocalMisuse says what is wrong with them.
    """

    __slots__ = ("id", "mandatory", "peers", "secret")

    id: bytes
    secret: Secret
    mandatory: bool
    peers: frozenset[str]

    def __init__(
        self,
        id: str | bytes,
        secret: str | bytes | bytearray | Secret,
        *,
        mandatory: bool = True,
        peers: Collection[str] = (),
    ) -> None:
        name = id.encode() if isinstance(id, str) else bytes(id)
        held = Secret(secret)
        if not 0 < len(name) <= MAX_ID:
            raise LocalMisuse(f"a PPK's id is 1 to {MAX_ID} bytes, not {len(name)}")
        if len(held) < MIN_PPK_BYTES:
            raise LocalMisuse(
                f"the PPK {printable(name.decode('utf-8', 'replace'))} has {len(held)} bytes and needs at least "
                f"{MIN_PPK_BYTES}: use secrets.token_bytes(32)"
            )
        if isinstance(peers, str):
            raise LocalMisuse("peers is a list of names; a single one is a list too: peers=['host/b.example']")
        place = object.__setattr__
        place(self, "id", name)
        place(self, "secret", held)
        place(self, "mandatory", mandatory)
        place(self, "peers", frozenset(parse_peer_target_name(each).principal for each in peers))

    def is_for(self, principal: str | None) -> bool:
        """Whether it is shared with the principal of this name; None is nobody in particular."""
        return not self.peers or principal in self.peers

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Ppk is frozen: make a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Ppk is frozen: make a new one")

    def __repr__(self) -> str:
        return f"<Ppk {printable(self.id.decode('utf-8', 'replace'))} {'mandatory' if self.mandatory else 'optional'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PPK is not pickled")
