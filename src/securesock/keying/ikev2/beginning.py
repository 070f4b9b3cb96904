"""What IKE_SA_INIT and IKE_INTERMEDIATE leave behind for IKE_AUTH: values alone, for the proofs and for the first
CHILD_SA."""

from __future__ import annotations

from dataclasses import dataclass

from ...identity.ppk import Ppk

__all__ = ["Beginning"]


@dataclass(slots=True)
class Beginning:
    """What IKE_SA_INIT and IKE_INTERMEDIATE leave behind for IKE_AUTH.

    ``ppk_agreed``: both said USE_PPK (RFC 8784 3); ``ppk`` is the one that we, the initiator, will use then.
    """

    initiator_nonce: bytes
    responder_nonce: bytes
    our_first_message: bytes
    peer_first_message: bytes
    peer_hashes: tuple[int, ...]
    translated: bool
    intermediate: bytes = b""
    ppk_agreed: bool = False
    ppk: Ppk | None = None
