"""The values that applications hand in and get back: settings, principals, security information.

Frozen, validated when they are made, free of secrets when they are shown.  They
know nothing of sockets, keying or policy; the other leaves are all they import.
Sources: SOCKET_SECURITY_SETTINGS(_IPSEC) and SOCKET_SECURITY_QUERY_INFO of mstcpip.h.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from .errors import LocalMisuse
from .secret import Secret

if TYPE_CHECKING:
    from uuid import UUID

__all__ = [
    "ANY_TRUSTED_PEER",
    "Address",
    "AnyTrustedPeer",
    "Flow",
    "IPsecSettings",
    "Json",
    "Lifetimes",
    "Principal",
    "PrincipalKind",
    "PrincipalMethod",
    "SecurityInfo",
    "SecuritySettings",
]

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""(host, port) for AF_INET, (host, port, flowinfo, scope id) for AF_INET6, as the socket module's."""

PrincipalKind: TypeAlias = Literal["machine", "user"]
PrincipalMethod: TypeAlias = Literal["x509", "psk", "kerberos", "ntlm", "tls", "eap", "anonymous"]


class AnyTrustedPeer(Enum):
    """The type of ANY_TRUSTED_PEER."""

    ANY_TRUSTED_PEER = "any trusted peer"

    def __repr__(self) -> str:
        return "securesock.ANY_TRUSTED_PEER"


ANY_TRUSTED_PEER: Final = AnyTrustedPeer.ANY_TRUSTED_PEER
"""Said aloud as a peer target name: any machine that the trust anchors vouch for will do."""


class Flow(NamedTuple):
    """One 5-tuple, from our side.  Hosts are numeric address strings without scope."""

    protocol: int
    our_host: str
    our_port: int
    peer_host: str
    peer_port: int


class Lifetimes(NamedTuple):
    """After how much an SA seals nothing more.  Rekeying starts at half of each (semantics: the sealing side's clock).

    ``max_bytes`` counts application data, ``max_packets`` ESP packets; each end enforces its own values.
    """

    seconds: float
    max_bytes: int
    max_packets: int


class _PasswordSlot:
    """Room for a password that is no field, so that nothing which walks over fields carries it along.

    At the root of the settings because slots of two bases cannot be joined.
    """

    __slots__ = ("_password",)
    _password: Secret


@dataclass(frozen=True, slots=True)
class SecuritySettings(_PasswordSlot):
    """What an application asks of one socket (SOCKET_SECURITY_SETTINGS, mstcpip.h).

    ``guarantee_encryption``: only suites with a cipher, whatever policy prefers.
    ``allow_insecure``: clear text is allowed where the peer does not speak IPsec; an
    attacker on the path can always cause that.  Both together are LocalMisuse.
    """

    guarantee_encryption: bool = False
    allow_insecure: bool = False

    def __post_init__(self) -> None:
        if self.guarantee_encryption and self.allow_insecure:
            raise LocalMisuse(
                "guarantee_encryption and allow_insecure contradict each other: "
                "clear text cannot be encrypted; choose one"
            )

    def to_dict(self) -> dict[str, Json]:
        """Plain values for JSON; passwords are left out."""
        return {item.name: _to_json(getattr(self, item.name)) for item in fields(self)}


@dataclass(frozen=True, slots=True, init=False)
class IPsecSettings(SecuritySettings):
    """SOCKET_SECURITY_SETTINGS_IPSEC (mstcpip.h): policy by key, and a user's credentials.

    ``password`` is accepted as str, bytes or bytearray and kept as a Secret that is no field: it is not shown, not
    compared, not in asdict or to_dict, and copies, ``replace`` and pickles come without it.  Our copy is overwritten
    after the negotiation; a str of the caller's cannot be.
    """

    skip_filter_instantiation: bool = False
    main_mode_policy: UUID | None = None
    quick_mode_policy: UUID | None = None
    user_name: str = ""
    domain_name: str = ""

    def __init__(
        self,
        guarantee_encryption: bool = False,
        allow_insecure: bool = False,
        skip_filter_instantiation: bool = False,
        main_mode_policy: UUID | None = None,
        quick_mode_policy: UUID | None = None,
        user_name: str = "",
        domain_name: str = "",
        password: str | bytes | bytearray | Secret = "",
    ) -> None:
        # frozen: the generated __init__ sets fields in this way too
        place = object.__setattr__
        place(self, "skip_filter_instantiation", skip_filter_instantiation)
        place(self, "main_mode_policy", main_mode_policy)
        place(self, "quick_mode_policy", quick_mode_policy)
        place(self, "user_name", user_name)
        place(self, "domain_name", domain_name)
        place(self, "_password", Secret(password))
        # dataclass(slots=True) makes a new class, so that super() without arguments would miss it
        SecuritySettings.__init__(self, guarantee_encryption, allow_insecure)

    @property
    def password(self) -> Secret:
        """The user's password; empty in a copy, and once the negotiation has used it."""
        return getattr(self, "_password", Secret())


@dataclass(frozen=True, slots=True)
class Principal:
    """Who somebody is, how it was proven, and by which credential.

    ``evidence`` is the certificate's SHA-256 fingerprint, the ticket's principal, or empty.
    """

    name: str
    kind: PrincipalKind = "machine"
    method: PrincipalMethod = "x509"
    evidence: str = ""

    def __str__(self) -> str:
        return self.name

    def to_dict(self) -> dict[str, Json]:
        """Plain values for JSON."""
        return {item.name: _to_json(getattr(self, item.name)) for item in fields(self)}


@dataclass(frozen=True, slots=True)
class SecurityInfo:
    """What was really applied to a connection, beside what was asked (SOCKET_SECURITY_QUERY_INFO, mstcpip.h)."""

    protocol: str = "ipsec"
    secured: bool = False
    encrypted: bool = False
    impersonated: bool = False
    peer_machine: Principal | None = None
    peer_user: Principal | None = None
    plane: str = ""
    keying: str = ""
    main_mode_suite: str = ""
    quick_mode_suite: str = ""
    main_mode_sa_id: int = 0
    quick_mode_sa_id: int = 0
    negotiation_error: str = ""
    main_mode_policy: UUID | None = None
    quick_mode_policy: UUID | None = None
    filter_id: int | None = None
    asked: SecuritySettings = field(default_factory=SecuritySettings)
    requested_address: Address | None = None
    key_exchange: str = ""
    differences: tuple[str, ...] = ()
    rekeys: int = 0
    established_at: datetime | None = None
    latch: Literal["established", "broken"] = "established"
    inner_address: Address | None = None

    def to_dict(self) -> dict[str, Json]:
        """Plain values for JSON: UUIDs and datetimes as strings, principals and settings as objects."""
        return {item.name: _to_json(getattr(self, item.name)) for item in fields(self)}


def _to_json(value: object) -> Json:
    uuid = sys.modules.get("uuid")  # slow to load; where nobody has, nothing is a UUID
    if uuid is not None and isinstance(value, uuid.UUID):
        return str(value)
    match value:
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return value.isoformat()
        case Principal() | SecuritySettings():
            return value.to_dict()
        case Mapping():
            return {str(key): _to_json(each) for key, each in value.items()}
        case tuple() | list():
            return [_to_json(each) for each in value]
    raise TypeError(f"no JSON form for {type(value).__name__}")
