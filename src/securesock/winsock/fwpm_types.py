"""What the enumerations of SAs and the statistics return, under the names of ipsectypes.h and iketypes.h.

Values without behaviour.  A union is its one member that is in use here, a pointer to nothing None, an address text,
a SID a name.  Keys are in none of them.  Policy objects (provider contexts, filters) are those of securesock.policy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from uuid import UUID

from ..policy.enumeration import ContextTemplate, FilterTemplate, ObjectTemplate
from ..policy.ipsec import IkeProposal, SaLifetime, SaTransform
from ..policy.ipsec_numbers import AuthMethodType, ImpersonationType, KeyModuleType, PfsGroup, TransformType
from ..policy.model import Filter
from ..wire.winsock_fields import NO_GUID

__all__ = [
    "FWPM_SESSION0",
    "FWPM_SUBSCRIPTION0",
    "FWP_DIRECTION",
    "IKEEXT_COOKIE_PAIR0",
    "IKEEXT_CREDENTIAL1",
    "IKEEXT_CREDENTIAL_PAIR1",
    "IKEEXT_KEYMODULE_STATISTICS1",
    "IKEEXT_SA_DETAILS1",
    "IKEEXT_SA_ENUM_TEMPLATE0",
    "IKEEXT_STATISTICS1",
    "IKEEXT_TRAFFIC0",
    "IPSEC_AGGREGATE_SA_STATISTICS0",
    "IPSEC_ID0",
    "IPSEC_SA0",
    "IPSEC_SA_BUNDLE1",
    "IPSEC_SA_CONTEXT1",
    "IPSEC_SA_CONTEXT_ENUM_TEMPLATE0",
    "IPSEC_SA_DETAILS1",
    "IPSEC_STATISTICS1",
    "IPSEC_TRAFFIC1",
    "IPSEC_TRAFFIC_TYPE",
    "IPSEC_V4_UDP_ENCAPSULATION0",
]


class FWP_DIRECTION(IntEnum):
    """Of an SA."""

    FWP_DIRECTION_OUTBOUND = 0
    FWP_DIRECTION_INBOUND = 1


class IPSEC_TRAFFIC_TYPE(IntEnum):
    """Of IPSEC_TRAFFIC1."""

    IPSEC_TRAFFIC_TYPE_TRANSPORT = 0
    IPSEC_TRAFFIC_TYPE_TUNNEL = 1


@dataclass(frozen=True, slots=True)
class FWPM_SESSION0:
    """What FwpmEngineOpen0 may be told.  ``txnWaitTimeoutInMSec`` 0: the default of 15 s; 0xFFFFFFFF: for ever."""

    sessionKey: UUID = NO_GUID
    flags: int = 0
    txnWaitTimeoutInMSec: int = 0


@dataclass(frozen=True, slots=True)
class FWPM_SUBSCRIPTION0:
    """FWPM_PROVIDER_CONTEXT_SUBSCRIPTION0 and its kin.  ``sessionKey`` is not looked at."""

    enumTemplate: ContextTemplate | FilterTemplate | ObjectTemplate | None = None
    flags: int = 0
    sessionKey: UUID = NO_GUID


@dataclass(frozen=True, slots=True)
class IPSEC_SA_CONTEXT_ENUM_TEMPLATE0:
    """An address or a network on each side; empty is any."""

    localSubNet: str = ""
    remoteSubNet: str = ""


@dataclass(frozen=True, slots=True)
class IKEEXT_SA_ENUM_TEMPLATE0:
    """The same; ``localMainModeCertHash`` is our certificate's hash in hexadecimal, empty is any."""

    localSubNet: str = ""
    remoteSubNet: str = ""
    localMainModeCertHash: str = ""


@dataclass(frozen=True, slots=True)
class IPSEC_TRAFFIC1:
    """What an SA is for."""

    ipVersion: int
    localAddress: str
    remoteAddress: str
    trafficType: IPSEC_TRAFFIC_TYPE
    ipsecFilterId: int
    remotePort: int
    localPort: int
    ipProtocol: int


@dataclass(frozen=True, slots=True)
class IPSEC_SA0:
    """One SA.  ``transform`` is the union's member; the keys beside it are not told."""

    spi: int
    saTransformType: TransformType
    transform: SaTransform | None


@dataclass(frozen=True, slots=True)
class IPSEC_ID0:
    """Whom the SAs were made for: the names of machines and users that were expected or proven."""

    mmTargetName: str = ""
    emTargetName: str = ""


@dataclass(frozen=True, slots=True)
class IPSEC_SA_BUNDLE1:
    """The SAs of one direction (always one here), and what they were agreed under."""

    flags: int
    lifetime: SaLifetime
    ipsecId: IPSEC_ID0
    qmSaId: int
    saList: tuple[IPSEC_SA0, ...]
    ipVersion: int
    mmSaId: int
    pfsGroup: PfsGroup
    saLookupContext: UUID
    qmFilterId: int = 0

    @property
    def numSAs(self) -> int:
        """How many."""
        return len(self.saList)


@dataclass(frozen=True, slots=True)
class IPSEC_V4_UDP_ENCAPSULATION0:
    """The outer ports."""

    localUdpEncapPort: int
    remoteUdpEncapPort: int


@dataclass(frozen=True, slots=True)
class IPSEC_SA_DETAILS1:
    """One direction."""

    ipVersion: int
    saDirection: FWP_DIRECTION
    traffic: IPSEC_TRAFFIC1
    saBundle: IPSEC_SA_BUNDLE1
    udpEncapsulation: IPSEC_V4_UDP_ENCAPSULATION0 | None = None
    transportFilter: Filter | None = None


@dataclass(frozen=True, slots=True)
class IPSEC_SA_CONTEXT1:
    """A pair of SAs."""

    saContextId: int
    inboundSa: IPSEC_SA_DETAILS1
    outboundSa: IPSEC_SA_DETAILS1


@dataclass(frozen=True, slots=True)
class IKEEXT_TRAFFIC0:
    """Between whom."""

    ipVersion: int
    localAddress: str
    remoteAddress: str
    authIpFilterId: int = 0


@dataclass(frozen=True, slots=True)
class IKEEXT_COOKIE_PAIR0:
    """The SPIs of IKE, 64 bits each."""

    initiator: int
    responder: int


@dataclass(frozen=True, slots=True)
class IKEEXT_CREDENTIAL1:
    """How one side proved itself.  ``certHash`` is in hexadecimal, empty where no certificate did."""

    authenticationMethodType: AuthMethodType
    impersonationType: ImpersonationType
    principalName: str
    certHash: str = ""


@dataclass(frozen=True, slots=True)
class IKEEXT_CREDENTIAL_PAIR1:
    """Both sides of one authentication."""

    localCredentials: IKEEXT_CREDENTIAL1
    peerCredentials: IKEEXT_CREDENTIAL1


@dataclass(frozen=True, slots=True)
class IKEEXT_SA_DETAILS1:
    """A main mode SA.  ``ikeCredentials`` has one pair: here a user proves himself in place of the machine."""

    saId: int
    keyModuleType: KeyModuleType
    ipVersion: int
    v4UdpEncapsulation: IPSEC_V4_UDP_ENCAPSULATION0 | None
    ikeTraffic: IKEEXT_TRAFFIC0
    ikeProposal: IkeProposal
    cookiePair: IKEEXT_COOKIE_PAIR0
    ikeCredentials: tuple[IKEEXT_CREDENTIAL_PAIR1, ...]
    ikePolicyKey: UUID = NO_GUID


@dataclass(frozen=True, slots=True)
class IPSEC_AGGREGATE_SA_STATISTICS0:
    """Of this process."""

    activeSas: int
    pendingSaNegotiations: int
    totalSasAdded: int
    totalSasDeleted: int
    successfulRekeys: int
    activeTunnels: int = 0
    offloadedSas: int = 0


@dataclass(frozen=True, slots=True)
class IPSEC_STATISTICS1:
    """What this process counts of IPsec; packets are counted by each socket (``refusals``), not in sum."""

    aggregateSaStatistics: IPSEC_AGGREGATE_SA_STATISTICS0


@dataclass(frozen=True, slots=True)
class IKEEXT_KEYMODULE_STATISTICS1:
    """Of one keying module, both IP versions together.  ``errorFrequencyTable``: index is the code minus 13800."""

    currentActiveMainModes: int = 0
    totalMainModesStarted: int = 0
    totalSuccessfulMainModes: int = 0
    totalFailedMainModes: int = 0
    totalResponderMainModes: int = 0
    currentActiveQuickModes: int = 0
    totalQuickModesStarted: int = 0
    totalSuccessfulQuickModes: int = 0
    totalFailedQuickModes: int = 0
    totalAcquires: int = 0
    errorFrequencyTable: tuple[int, ...] = (0,) * 97


@dataclass(frozen=True, slots=True)
class IKEEXT_STATISTICS1:
    """By keying module; there is IKEv2 alone."""

    ikeV2Statistics: IKEEXT_KEYMODULE_STATISTICS1
    ikeStatistics: IKEEXT_KEYMODULE_STATISTICS1 = field(default_factory=IKEEXT_KEYMODULE_STATISTICS1)
    authipStatistics: IKEEXT_KEYMODULE_STATISTICS1 = field(default_factory=IKEEXT_KEYMODULE_STATISTICS1)
