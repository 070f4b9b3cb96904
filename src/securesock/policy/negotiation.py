"""What may be negotiated: main mode (IKE_SA) and quick mode (CHILD_SA) policies in terms of crypto suites.

An offer is one proposal of RFC 7296 3.3: alternatives per kind of transform, in order of preference.  AEAD and other
ciphers never share an offer (RFC 7296 3.3.3).  The modern default below is what an unconfigured socket uses.
Knows algorithms, not messages.

A policy says what is wanted, wherever it was written; what this machine's cryptography cannot do is left out when it
is about to be offered or accepted (available_offers).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from ..crypto.key_exchange import is_available
from ..crypto.suites import (
    AES_128_CBC,
    AES_128_GCM_16,
    AES_256_CBC,
    AES_256_GCM_16,
    CHACHA20_POLY1305,
    HMAC_SHA2_256_128,
    HMAC_SHA2_384_192,
    HMAC_SHA2_512_256,
    ML_KEM_768,
    MODP_2048,
    P_256,
    P_384,
    P_521,
    PRF_HMAC_SHA2_256,
    PRF_HMAC_SHA2_384,
    PRF_HMAC_SHA2_512,
    X25519,
    Encryption,
    Integrity,
    KeyExchangeMethod,
    Prf,
)
from ..errors import LocalMisuse
from ..types import Lifetimes

if TYPE_CHECKING:
    from uuid import UUID

__all__ = [
    "DEFAULT_MAIN_MODE",
    "DEFAULT_QUICK_MODE",
    "IDLE_S",
    "ChildOffer",
    "IkeOffer",
    "KeyExchangePreference",
    "STANDARD_QUICK_MODE",
    "UNMARKED",
    "MainModePolicy",
    "PolicyMark",
    "QuickModePolicy",
    "available_offers",
    "main_mode_offers",
]


class PolicyMark(NamedTuple):
    """Where a negotiation's policies come from, for whoever reports on its SAs; None where no filter or key decided.

    ``transport_filter``: the filter that asks for the SA (IPSEC_SA_DETAILS1.transportFilter).
    """

    main_mode_policy: UUID | None = None
    quick_mode_policy: UUID | None = None
    filter_id: int | None = None
    transport_filter: int | None = None


UNMARKED: Final = PolicyMark()


KeyExchangePreference: TypeAlias = Literal["hybrid", "hybrid-required", "classical"]


@dataclass(frozen=True, slots=True)
class IkeOffer:
    """Alternatives for one IKE_SA proposal; ``additional`` is ADDKE1..n of RFC 9370, each with one method."""

    encryptions: tuple[Encryption, ...]
    integrities: tuple[Integrity, ...]
    prfs: tuple[Prf, ...]
    key_exchanges: tuple[KeyExchangeMethod, ...]
    additional: tuple[KeyExchangeMethod, ...] = ()


@dataclass(frozen=True, slots=True)
class ChildOffer:
    """Alternatives for one ESP proposal.  The key exchange of a rekey is the latched one, so none is named here."""

    encryptions: tuple[Encryption, ...]
    integrities: tuple[Integrity, ...] = ()
    esn: tuple[bool, ...] = (True,)


@dataclass(frozen=True, slots=True)
class MainModePolicy:
    """How an IKE_SA may be made.  ``lifetimes.max_bytes`` counts the data of its CHILD_SAs.

    ``reauthentication_s``: after how many seconds both ends of a UDP association prove themselves anew (RFC 4478), None
    while it lives.  A TCP connection proves its ends once.
    """

    offers: tuple[IkeOffer, ...]
    lifetimes: Lifetimes
    allow_anonymous: bool = False
    reauthentication_s: float | None = None


IDLE_S: Final = 300.0
"""IPSEC_SA_IDLE_TIMEOUT0 of Windows' default policy: five minutes."""


@dataclass(frozen=True, slots=True)
class QuickModePolicy:
    """How a CHILD_SA may be made.  ``pfs``: a rekey runs a key exchange of its own (RFC 7296 1.3.3), or none is made;
    with ``pfs_required`` false it is preferred, and a peer that has it not in its policy goes without.

    ``idle_s``: after how long without a datagram either way an SA of a datagram socket goes; a stream's goes with it.
    """

    offers: tuple[ChildOffer, ...]
    lifetimes: Lifetimes
    pfs: bool = True
    pfs_required: bool = True
    idle_s: float = IDLE_S


_AEADS: Final = (AES_256_GCM_16, CHACHA20_POLY1305, AES_128_GCM_16)
_CBCS: Final = (AES_256_CBC, AES_128_CBC)
_INTEGRITIES: Final = (HMAC_SHA2_256_128, HMAC_SHA2_384_192, HMAC_SHA2_512_256)
_PRFS: Final = (PRF_HMAC_SHA2_256, PRF_HMAC_SHA2_384, PRF_HMAC_SHA2_512)
_MODERN: Final = (X25519, P_256, P_384)
_ALL: Final = (X25519, P_256, P_384, P_521, MODP_2048)


# hybrid first (no NONE among ADDKE1), then the same without (semantics: ML-KEM)
_HYBRID: Final = (IkeOffer(_AEADS, (), _PRFS, _MODERN, (ML_KEM_768,)),)
_CLASSICAL: Final = (IkeOffer(_AEADS, (), _PRFS, _ALL), IkeOffer(_CBCS, _INTEGRITIES, _PRFS, _ALL))
_OFFERS: Final[Mapping[KeyExchangePreference, tuple[IkeOffer, ...]]] = {
    "hybrid": (*_HYBRID, *_CLASSICAL),
    "hybrid-required": _HYBRID,
    "classical": _CLASSICAL,
}


def main_mode_offers(preference: KeyExchangePreference) -> tuple[IkeOffer, ...]:
    """The default proposals that this machine can keep.  LocalMisuse, as available_offers, when there are none."""
    return available_offers(_OFFERS[preference])


@lru_cache(maxsize=64)
def available_offers(offers: tuple[IkeOffer, ...]) -> tuple[IkeOffer, ...]:
    """What of ``offers`` this machine's cryptography can do: key exchanges differ between builds of the library.

    An alternative that it lacks is left out; an offer without an alternative left, or with an additional key exchange
    that it lacks, is left out as a whole.  LocalMisuse when nothing is left says what to upgrade.
    """
    kept = []
    for offer in offers:
        methods = tuple(each for each in offer.key_exchanges if is_available(each))
        if methods and all(is_available(each) for each in offer.additional):
            kept.append(replace(offer, key_exchanges=methods))
    if not kept:
        wanted = {method for offer in offers for method in (*offer.key_exchanges, *offer.additional)}
        lacking = ", ".join(sorted(each.name for each in wanted if not is_available(each)))
        raise LocalMisuse(
            f"the main mode policy needs {lacking}, which this machine's cryptography lacks: upgrade the package "
            "'cryptography' (48 or later from PyPI brings its OpenSSL along; built against the system's, it needs "
            "OpenSSL 3.5 or later for ML-KEM), or allow other key exchanges (key_exchange='hybrid' or 'classical')"
        )
    return tuple(kept)


DEFAULT_MAIN_MODE: Final = MainModePolicy(
    _OFFERS["hybrid"],
    # RFC 4303 and 4106 set no time; a day for the key exchange and its 2^32 message ids is never near a limit.
    Lifetimes(seconds=24 * 3600.0, max_bytes=1 << 60, max_packets=1 << 31),
)

DEFAULT_QUICK_MODE: Final = QuickModePolicy(
    (ChildOffer(_AEADS), ChildOffer(_CBCS, _INTEGRITIES)),
    # 2^32 packets of 2^12 blocks keep AES-GCM far below the 2^64 blocks of NIST SP 800-38D; 1 TiB is the same
    # thought in bytes.
    Lifetimes(seconds=8 * 3600.0, max_bytes=1 << 40, max_packets=1 << 32),
)

STANDARD_QUICK_MODE: Final = replace(
    DEFAULT_QUICK_MODE,
    offers=tuple(replace(each, esn=(True, False)) for each in DEFAULT_QUICK_MODE.offers),
    pfs_required=False,
)
"""The same with standard hosts, many of which number packets with 32 bits and rekey without a key exchange unless they
are told: 64 bits and PFS are preferred, and refused to nobody who lacks them."""
