"""Enumerating the SAs of this process, and its statistics: IPsecSaContext*, IkeextSa*, IPsecGetStatistics and kin.

The SAs are those of this process's sockets (engine/live_sas); another process has its own.  Access is that of the
platform: ENUM and READ on the SA databases, which by default the engine's owner has.  Sources: fwpmu.h, ipsectypes.h,
iketypes.h.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Final

from ..crypto.suites import ML_KEM_768, X25519, EspSuite, IkeSuite, KeyExchangeMethod
from ..engine.failure_events import winerror_of
from ..engine.live_sas import LIVE_SAS, LiveSa
from ..keying.contract import Role
from ..policy.conditions import match
from ..policy.enumeration import EnumFlag, EnumType, FilterTemplate
from ..policy.errors import PolicyCode, error_for
from ..policy.fields import Field
from ..policy.ipsec import AuthTransform, CipherTransform, IkeProposal, SaLifetime, SaTransform
from ..policy.ipsec_numbers import (
    METHOD_TYPES,
    AuthType,
    CipherType,
    DhGroup,
    IkeCipher,
    IkeIntegrity,
    ImpersonationType,
    KeyModuleType,
    PfsGroup,
    TransformType,
)
from ..policy.layers import Layer
from ..policy.model import Filter
from ..policy.session import Session
from ..policy.values import AddressType
from ..types import Principal
from .fwpm_types import (
    FWP_DIRECTION,
    IKEEXT_COOKIE_PAIR0,
    IKEEXT_CREDENTIAL1,
    IKEEXT_CREDENTIAL_PAIR1,
    IKEEXT_KEYMODULE_STATISTICS1,
    IKEEXT_SA_DETAILS1,
    IKEEXT_SA_ENUM_TEMPLATE0,
    IKEEXT_STATISTICS1,
    IKEEXT_TRAFFIC0,
    IPSEC_AGGREGATE_SA_STATISTICS0,
    IPSEC_ID0,
    IPSEC_SA0,
    IPSEC_SA_BUNDLE1,
    IPSEC_SA_CONTEXT1,
    IPSEC_SA_CONTEXT_ENUM_TEMPLATE0,
    IPSEC_SA_DETAILS1,
    IPSEC_STATISTICS1,
    IPSEC_TRAFFIC1,
    IPSEC_TRAFFIC_TYPE,
    IPSEC_V4_UDP_ENCAPSULATION0,
)

__all__ = ["ike_statistics", "ipsec_statistics", "sa_contexts", "sa_details"]

_CODE: Final = PolicyCode
# winerror.h: ERROR_IPSEC_IKE_NEG_STATUS_BEGIN, and how many codes iketypes.h counts from there.
_FIRST_ERROR: Final = 13800
_ERRORS: Final = 97

# By IANA's transform ids (and key bits), as ``crypto.suites`` has them.
_IKE_CIPHERS: Final = {
    (12, 128): IkeCipher.AES_128,
    (12, 192): IkeCipher.AES_192,
    (12, 256): IkeCipher.AES_256,
    (20, 128): IkeCipher.AES_GCM_128_16ICV,
    (20, 256): IkeCipher.AES_GCM_256_16ICV,
    (28, None): IkeCipher.CHACHA20_POLY1305,
}
_IKE_INTEGRITY: Final = {5: IkeIntegrity.SHA_256, 6: IkeIntegrity.SHA_384, 7: IkeIntegrity.SHA_512}
_DH: Final = {14: DhGroup.MODP_2048, 19: DhGroup.ECP_256, 20: DhGroup.ECP_384, 31: DhGroup.CURVE25519}
_PFS: Final = {14: PfsGroup.MODP_2048, 19: PfsGroup.ECP_256, 20: PfsGroup.ECP_384, 31: PfsGroup.CURVE25519}
# What an AEAD is as a pair of transforms, each with the other's strength.
_AEADS: Final = {
    (20, 128): (AuthTransform(AuthType.AES_128, 3), CipherTransform(CipherType.AES_128, 6)),
    (20, 192): (AuthTransform(AuthType.AES_192, 4), CipherTransform(CipherType.AES_192, 7)),
    (20, 256): (AuthTransform(AuthType.AES_256, 5), CipherTransform(CipherType.AES_256, 8)),
    (28, None): (AuthTransform(AuthType.POLY1305, 2), CipherTransform(CipherType.CHACHA20, 0)),
}
_GMACS: Final = {
    128: AuthTransform(AuthType.AES_128, 3),
    192: AuthTransform(AuthType.AES_192, 4),
    256: AuthTransform(AuthType.AES_256, 5),
}
_MACS: Final = {
    12: AuthTransform(AuthType.SHA_256, 2),
    13: AuthTransform(AuthType.SHA_384, 3),
    14: AuthTransform(AuthType.SHA_512, 4),
}
_CBCS: Final = {
    128: CipherTransform(CipherType.AES_128, 3),
    192: CipherTransform(CipherType.AES_192, 4),
    256: CipherTransform(CipherType.AES_256, 5),
}
_CBC, _GMAC = 12, 21


# -- choosing ----------------------------------------------------------------------------------------------------------


def _is_in(subnet: str) -> Callable[[str], bool]:
    """INVALID_NET_MASK for what is no address nor network."""
    if not subnet:
        return lambda host: True
    try:
        network = ip_network(subnet, strict=False)
    except ValueError:
        raise error_for(_CODE.INVALID_NET_MASK, f"{subnet!r} is no address and no network") from None
    return lambda host: ip_address(host) in network


def _chosen(local: str, remote: str) -> list[LiveSa]:
    is_ours, is_peers = _is_in(local), _is_in(remote)
    return [
        sa for sa in LIVE_SAS.snapshot() if is_ours(sa.config.our_address[0]) and is_peers(sa.config.peer_address[0])
    ]


def sa_contexts(session: Session, template: IPSEC_SA_CONTEXT_ENUM_TEMPLATE0 | None) -> list[IPSEC_SA_CONTEXT1]:
    """The SA contexts that live now, in the order of their ids."""
    wanted = IPSEC_SA_CONTEXT_ENUM_TEMPLATE0() if template is None else template
    return [_context(session, sa) for sa in _chosen(wanted.localSubNet, wanted.remoteSubNet)]


def sa_details(template: IKEEXT_SA_ENUM_TEMPLATE0 | None) -> list[IKEEXT_SA_DETAILS1]:
    """The main mode SAs that live now; one that several quick modes stand under is there once."""
    wanted = IKEEXT_SA_ENUM_TEMPLATE0() if template is None else template
    found = {sa.main_mode_sa_id: sa for sa in _chosen(wanted.localSubNet, wanted.remoteSubNet)}
    details = [_main_mode(sa) for sa in found.values()]
    asked = wanted.localMainModeCertHash.lower()
    return [each for each in details if not asked or each.ikeCredentials[0].localCredentials.certHash == asked]


# -- one SA as Windows describes it ------------------------------------------------------------------------------------


def _context(session: Session, sa: LiveSa) -> IPSEC_SA_CONTEXT1:
    chosen = _transport_filter(session, sa)
    inbound = _details(sa, FWP_DIRECTION.FWP_DIRECTION_INBOUND, sa.inbound_spi, None)
    outbound = _details(sa, FWP_DIRECTION.FWP_DIRECTION_OUTBOUND, sa.outbound_spi, chosen)
    return IPSEC_SA_CONTEXT1(sa.quick_mode_sa_id, inbound, outbound)


def _details(sa: LiveSa, direction: FWP_DIRECTION, spi: int, chosen: Filter | None) -> IPSEC_SA_DETAILS1:
    suite, config = sa.establishment.quick_mode_suite, sa.config
    version = ip_address(config.our_address[0]).version
    transform = _transform(suite)
    expected = "" if config.role is Role.RESPONDER else sa.establishment.peer.name
    is_user = sa.establishment.peer.kind == "user"
    seconds, size, packets = config.quick_mode.lifetimes
    bundle = IPSEC_SA_BUNDLE1(
        flags=0,
        lifetime=SaLifetime(int(min(seconds, 0xFFFFFFFF)), min(size >> 10, 0xFFFFFFFF), min(packets, 0xFFFFFFFF)),
        ipsecId=IPSEC_ID0("" if is_user else expected, expected if is_user else ""),
        qmSaId=sa.quick_mode_sa_id,
        saList=(IPSEC_SA0(spi, transform.type, transform),),
        ipVersion=version,
        mmSaId=sa.main_mode_sa_id,
        pfsGroup=_pfs_group(suite),
        saLookupContext=sa.lookup_context,
        qmFilterId=0 if chosen is None else chosen.id,
    )
    traffic = IPSEC_TRAFFIC1(
        version,
        config.our_address[0],
        config.peer_address[0],
        IPSEC_TRAFFIC_TYPE.IPSEC_TRAFFIC_TYPE_TRANSPORT,
        0 if chosen is None else chosen.id,
        config.peer_address[1],
        config.our_address[1],
        sa.establishment.flow.protocol,
    )
    return IPSEC_SA_DETAILS1(version, direction, traffic, bundle, _encapsulation(sa), chosen)


def _encapsulation(sa: LiveSa) -> IPSEC_V4_UDP_ENCAPSULATION0 | None:
    if sa.config.carrier != "datagram":
        return None
    return IPSEC_V4_UDP_ENCAPSULATION0(sa.config.our_address[1], sa.config.peer_address[1])


def _transform(suite: EspSuite) -> SaTransform:
    cipher = suite.encryption
    pair = _AEADS.get((cipher.transform_id, cipher.key_bits))
    if pair is not None:
        return SaTransform(TransformType.ESP_AUTH_AND_CIPHER, *pair)
    if cipher.transform_id == _GMAC:
        return SaTransform(TransformType.ESP_AUTH, _GMACS[cipher.key_bits or 128])
    mac = None if suite.integrity is None else _MACS.get(suite.integrity.transform_id)
    if cipher.transform_id == _CBC:
        return SaTransform(TransformType.ESP_AUTH_AND_CIPHER, mac, _CBCS[cipher.key_bits or 128])
    return SaTransform(TransformType.ESP_AUTH, mac)


def _main_mode(sa: LiveSa) -> IKEEXT_SA_DETAILS1:
    establishment, config = sa.establishment, sa.config
    version = ip_address(config.our_address[0]).version
    return IKEEXT_SA_DETAILS1(
        saId=sa.main_mode_sa_id,
        keyModuleType=KeyModuleType.IKEV2,
        ipVersion=version,
        v4UdpEncapsulation=_encapsulation(sa),
        ikeTraffic=IKEEXT_TRAFFIC0(version, config.our_address[0], config.peer_address[0]),
        ikeProposal=_proposal(establishment.main_mode_suite, establishment.main_mode_lifetimes.seconds),
        cookiePair=IKEEXT_COOKIE_PAIR0(*sa.ike_spis),
        ikeCredentials=(IKEEXT_CREDENTIAL_PAIR1(_credential(establishment.our), _credential(establishment.peer)),),
    )


def _proposal(suite: IkeSuite, seconds: float) -> IkeProposal:
    cipher = suite.encryption
    return IkeProposal(
        _IKE_CIPHERS[cipher.transform_id, cipher.key_bits],
        _IKE_INTEGRITY[suite.prf.transform_id],
        _dh_group(suite),
        max_lifetime_s=int(min(seconds, 0xFFFFFFFF)),
    )


def _is_hybrid(number: int, additional: tuple[KeyExchangeMethod, ...]) -> bool:
    return number == X25519.transform_id and ML_KEM_768 in additional


def _dh_group(suite: IkeSuite) -> DhGroup:
    """NONE where Windows has no number for the group."""
    number = suite.key_exchange.transform_id
    if _is_hybrid(number, suite.additional_key_exchanges):
        return DhGroup.CURVE25519_ML_KEM_768
    return _DH.get(number, DhGroup.NONE)


def _pfs_group(suite: EspSuite) -> PfsGroup:
    if suite.key_exchange is None:
        return PfsGroup.NONE
    number = suite.key_exchange.transform_id
    if _is_hybrid(number, suite.additional_key_exchanges):
        return PfsGroup.CURVE25519_ML_KEM_768
    return _PFS.get(number, PfsGroup.NONE)


def _credential(principal: Principal) -> IKEEXT_CREDENTIAL1:
    is_user = principal.kind == "user"
    return IKEEXT_CREDENTIAL1(
        METHOD_TYPES[principal.method],
        ImpersonationType.SOCKET_PRINCIPAL if is_user else ImpersonationType.NONE,
        principal.name,
        principal.evidence if principal.method == "x509" else "",
    )


def _transport_filter(session: Session, sa: LiveSa) -> Filter | None:
    """The filter that decides about packets of this flow, as Microsoft's sample looks for it."""
    our, peer = sa.config.our_address, sa.config.peer_address
    version = ip_address(our[0]).version
    template = FilterTemplate(
        layer=Layer.OUTBOUND_TRANSPORT_V4 if version == 4 else Layer.OUTBOUND_TRANSPORT_V6,
        enum_type=EnumType.FULLY_CONTAINED,
        flags=int(EnumFlag.BEST_TERMINATING_MATCH),
        action_mask=0x1000,  # FWP_ACTION_FLAG_TERMINATING
        conditions=(
            match(Field.IP_LOCAL_ADDRESS, our[0]),
            match(Field.IP_REMOTE_ADDRESS, peer[0]),
            match(Field.IP_LOCAL_PORT, our[1]),
            match(Field.IP_REMOTE_PORT, peer[1]),
            match(Field.IP_PROTOCOL, sa.establishment.flow.protocol),
            match(Field.IP_LOCAL_ADDRESS_TYPE, int(AddressType.UNICAST)),
        ),
    )
    found = session.filters.enumerate(template)
    return found[0] if found else None


# -- statistics --------------------------------------------------------------------------------------------------------


def ipsec_statistics() -> IPSEC_STATISTICS1:
    """IPsecGetStatistics1."""
    counted, active = LIVE_SAS.counters(), len(LIVE_SAS.snapshot())
    pending = counted.started + counted.responder_started - counted.succeeded - counted.failed
    return IPSEC_STATISTICS1(
        IPSEC_AGGREGATE_SA_STATISTICS0(
            activeSas=active,
            pendingSaNegotiations=max(0, pending),
            totalSasAdded=counted.sas_added,
            totalSasDeleted=counted.sas_added - active,
            successfulRekeys=counted.rekeys,
        )
    )


def ike_statistics() -> IKEEXT_STATISTICS1:
    """IkeextGetStatistics1."""
    counted, live = LIVE_SAS.counters(), LIVE_SAS.snapshot()
    errors: Counter[int] = Counter()
    for kind, number in LIVE_SAS.failures().items():
        errors[winerror_of(kind.__new__(kind))] += number  # the kind alone decides
    table = tuple(errors[_FIRST_ERROR + index] for index in range(_ERRORS))
    return IKEEXT_STATISTICS1(
        IKEEXT_KEYMODULE_STATISTICS1(
            currentActiveMainModes=len({sa.main_mode_sa_id for sa in live}),
            totalMainModesStarted=counted.started + counted.responder_started,
            totalSuccessfulMainModes=counted.succeeded,
            totalFailedMainModes=counted.failed,
            totalResponderMainModes=counted.responder_started,
            currentActiveQuickModes=len(live),
            totalQuickModesStarted=counted.sas_added,
            totalSuccessfulQuickModes=counted.sas_added,
            totalAcquires=counted.started,
            errorFrequencyTable=table,
        )
    )
