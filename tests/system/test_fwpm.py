"""The functions of fwpmu.h on real sockets: a policy of one's own by its key, SA look-up, statistics, net events."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest

import securesock as ss
from securesock import winsock as ws
from securesock.policy import FilterEngine, FilterTemplate, Layer, PolicyCode, PolicyError, Sublayer, match
from securesock.policy.builtin import MODERN_MAIN_MODE, MODERN_QUICK_MODE
from securesock.policy.enumeration import ContextTemplate, EnumFlag, EnumType
from securesock.policy.fields import Field
from securesock.policy.ipsec import (
    AuthTransform,
    CipherTransform,
    Proposal,
    SaLifetime,
    SaTransform,
    TransportPolicy,
)
from securesock.policy.ipsec_numbers import (
    AuthMethodType,
    AuthType,
    CipherType,
    ContextType,
    KeyModuleType,
    PfsGroup,
    TransformType,
)
from securesock.policy.model import Callout, Filter, Provider, ProviderContext
from securesock.winsock import fwpm
from tests.support.loopback import PATIENCE_S, client_context, connected, server_context, stranger_context, until

AES_128_GCM = SaTransform(
    TransformType.ESP_AUTH_AND_CIPHER, AuthTransform(AuthType.AES_128, 3), CipherTransform(CipherType.AES_128, 6)
)


def quick_mode(key: UUID) -> ProviderContext:
    """AES-128-GCM for an hour, as Microsoft's sample has AES-128 with SHA-1."""
    return ProviderContext(
        "one transform",
        key=key,
        type=ContextType.AUTHIP_QM_TRANSPORT,
        content=TransportPolicy((Proposal((AES_128_GCM,), SaLifetime(3600, 57671680, 0x7FFFFFFF)),)),
    )


@pytest.fixture
def engine() -> Iterator[int]:
    """A handle of a fresh engine of this process."""
    before = fwpm.local_engine()
    with FilterEngine.open(":memory:") as fresh:
        fwpm.use_local_engine(fresh)
        handle = fwpm.FwpmEngineOpen0(None, fwpm.RPC_C_AUTHN_WINNT, None, None)
        try:
            yield handle
        finally:
            fwpm.use_local_engine(before)
            try:
                fwpm.FwpmEngineClose0(handle)
            except ws.WSAError:
                assert handle  # the test closed it


def refused(code: int) -> pytest.RaisesExc[PolicyError]:
    return pytest.raises(PolicyError, check=lambda error: error.code == code)


@contextmanager
def no_handle() -> Iterator[None]:
    with pytest.raises(ws.WSAError) as caught:
        yield
    assert caught.value.winerror == 6  # ERROR_INVALID_HANDLE


def under(context: ss.SecurityContext) -> ss.SecurityContext:
    return ss.SecurityContext(context.identity, policy=fwpm.local_engine())


# -- engine, transactions, objects -------------------------------------------------------------------------------------


def test_an_engine_is_opened_as_itself_and_closed_once(engine: int) -> None:
    for arguments in (("other.example",), (None, 99)):
        with refused(PolicyCode.ERROR_NOT_SUPPORTED):
            fwpm.FwpmEngineOpen0(*arguments)
    with refused(PolicyCode.INVALID_FLAGS):
        fwpm.FwpmEngineOpen0(session=fwpm.FWPM_SESSION0(flags=2))
    key = uuid4()
    other = fwpm.FwpmEngineOpen0(session=fwpm.FWPM_SESSION0(key, txnWaitTimeoutInMSec=fwpm.INFINITE))
    with refused(PolicyCode.ALREADY_EXISTS):
        fwpm.FwpmEngineOpen0(session=fwpm.FWPM_SESSION0(key))
    assert fwpm.FwpmEngineClose0(other) == 0
    with no_handle():
        fwpm.FwpmEngineClose0(other)
    with no_handle():
        fwpm.FwpmTransactionBegin0(other)


def test_what_a_dynamic_session_added_goes_with_it(engine: int) -> None:
    session = fwpm.FWPM_SESSION0(flags=fwpm.FWPM_SESSION_FLAG_DYNAMIC, txnWaitTimeoutInMSec=100)
    dynamic = fwpm.FwpmEngineOpen0(session=session)
    key = uuid4()
    number = fwpm.FwpmProviderContextAdd0(dynamic, quick_mode(key))
    assert fwpm.FwpmProviderContextGetById1(engine, number).key == key
    enumeration = fwpm.FwpmProviderContextCreateEnumHandle0(dynamic)
    fwpm.FwpmEngineClose0(dynamic)
    with refused(PolicyCode.PROVIDER_CONTEXT_NOT_FOUND):
        fwpm.FwpmProviderContextGetByKey0(engine, key)
    with no_handle():
        fwpm.FwpmProviderContextDestroyEnumHandle0(dynamic, enumeration)


def test_transactions_are_all_or_nothing(engine: int) -> None:
    key = uuid4()
    with refused(PolicyCode.NO_TXN_IN_PROGRESS):
        fwpm.FwpmTransactionCommit0(engine)
    with refused(PolicyCode.INVALID_FLAGS):
        fwpm.FwpmTransactionBegin0(engine, 2)
    fwpm.FwpmTransactionBegin0(engine)
    with refused(PolicyCode.TXN_IN_PROGRESS):
        fwpm.FwpmTransactionBegin0(engine)
    fwpm.FwpmProviderContextAdd0(engine, quick_mode(key))
    fwpm.FwpmTransactionAbort0(engine)
    with refused(PolicyCode.PROVIDER_CONTEXT_NOT_FOUND):
        fwpm.FwpmProviderContextDeleteByKey0(engine, key)
    fwpm.FwpmTransactionBegin0(engine, fwpm.FWPM_TXN_READ_ONLY)
    with refused(PolicyCode.INCOMPATIBLE_TXN):
        fwpm.FwpmProviderContextAdd0(engine, quick_mode(key))
    fwpm.FwpmTransactionCommit0(engine)
    fwpm.FwpmTransactionBegin0(engine)
    fwpm.FwpmProviderContextAdd0(engine, quick_mode(key))
    fwpm.FwpmTransactionCommit0(engine)
    assert fwpm.FwpmProviderContextGetByKey1(engine, key).name == "one transform"


def test_every_kind_of_object_is_added_found_enumerated_and_deleted(engine: int) -> None:
    provider, context, sublayer, callout, rule = (uuid4() for _ in range(5))
    fwpm.FwpmProviderAdd0(engine, Provider("shop", key=provider))
    fwpm.FwpmProviderContextAdd2(engine, quick_mode(context))
    fwpm.FwpmSubLayerAdd0(engine, Sublayer("lane", key=sublayer, weight=9))
    fwpm.FwpmCalloutAdd0(engine, Callout("ask", key=callout, layer=Layer.ALE_AUTH_CONNECT_V4))
    number = fwpm.FwpmFilterAdd0(engine, Filter("pass", key=rule, layer=Layer.ALE_AUTH_CONNECT_V4, sublayer=sublayer))
    assert fwpm.FwpmFilterGetById0(engine, number).key == rule
    assert fwpm.FwpmSubLayerGetByKey0(engine, sublayer).weight == 9
    assert fwpm.FwpmProviderGetByKey0(engine, provider).name == "shop"
    assert fwpm.FwpmCalloutGetByKey0(engine, callout).name == "ask"
    with refused(PolicyCode.IN_USE):
        fwpm.FwpmSubLayerDeleteByKey0(engine, sublayer)
    handle = fwpm.FwpmFilterCreateEnumHandle0(engine, FilterTemplate(layer=Layer.ALE_AUTH_CONNECT_V4))
    assert [each.key for each in fwpm.FwpmFilterEnum0(engine, handle, 10)] == [rule]
    assert fwpm.FwpmFilterEnum0(engine, handle, 10) == []
    with refused(PolicyCode.INVALID_PARAMETER):
        fwpm.FwpmFilterEnum0(engine, handle, 0)
    assert fwpm.FwpmFilterDestroyEnumHandle0(engine, handle) == 0
    with no_handle():
        fwpm.FwpmFilterEnum0(engine, handle, 1)
    assert fwpm.FwpmFilterDeleteById0(engine, number) == 0
    for delete, key in (
        (fwpm.FwpmSubLayerDeleteByKey0, sublayer),
        (fwpm.FwpmCalloutDeleteByKey0, callout),
        (fwpm.FwpmProviderContextDeleteByKey0, context),
        (fwpm.FwpmProviderDeleteByKey0, provider),
    ):
        assert delete(engine, key) == 0
        with pytest.raises(PolicyError):
            delete(engine, key)
    with refused(PolicyCode.BUILTIN_OBJECT):
        fwpm.FwpmProviderContextDeleteByKey0(engine, MODERN_MAIN_MODE.key)
    assert fwpm.FwpmFreeMemory0() is None


def test_an_enumeration_comes_in_pieces_and_belongs_to_its_engine_handle(engine: int) -> None:
    handle = fwpm.FwpmProviderContextCreateEnumHandle0(engine, ContextTemplate(type=ContextType.IKEV2_MM))
    assert [each.key for each in fwpm.FwpmProviderContextEnum1(engine, handle, 1)] == [MODERN_MAIN_MODE.key]
    other = fwpm.FwpmEngineOpen0()
    with refused(PolicyCode.WRONG_SESSION):
        fwpm.FwpmProviderContextEnum1(other, handle, 1)
    fwpm.FwpmEngineClose0(other)


def test_a_subscriber_hears_of_what_others_add_and_delete(engine: int) -> None:
    heard: list[tuple[str, UUID]] = []
    both = fwpm.FWPM_SUBSCRIPTION_FLAG_NOTIFY_ON_ADD | fwpm.FWPM_SUBSCRIPTION_FLAG_NOTIFY_ON_DELETE
    for flags, code in ((0, PolicyCode.NEVER_MATCH), (4, PolicyCode.INVALID_FLAGS)):
        with refused(code):
            fwpm.FwpmProviderContextSubscribeChanges0(engine, fwpm.FWPM_SUBSCRIPTION0(flags=flags), print)
    handle = fwpm.FwpmProviderContextSubscribeChanges0(
        engine, fwpm.FWPM_SUBSCRIPTION0(flags=both), lambda change: heard.append((change.type.name, change.key))
    )
    other, key = fwpm.FwpmEngineOpen0(), uuid4()
    fwpm.FwpmProviderContextAdd0(other, quick_mode(key))
    fwpm.FwpmProviderContextDeleteByKey0(other, key)
    until(lambda: heard == [("ADD", key), ("DELETE", key)])
    assert fwpm.FwpmProviderContextUnsubscribeChanges0(engine, handle) == 0
    with no_handle():
        fwpm.FwpmProviderContextUnsubscribeChanges0(engine, handle)
    fwpm.FwpmEngineClose0(other)


# -- a connection, and the SAs that carry it ---------------------------------------------------------------------------


def test_a_policy_of_ones_own_is_what_the_socket_gets(engine: int) -> None:
    key = uuid4()
    fwpm.FwpmProviderContextAdd0(engine, quick_mode(key))
    settings = ws.SOCKET_SECURITY_SETTINGS_IPSEC(
        ws.SOCKET_SECURITY_PROTOCOL_IPSEC, ws.SOCKET_SETTINGS_GUARANTEE_ENCRYPTION, AuthipQMPolicyKey=key
    )
    with ss.create_server(("127.0.0.1", 0), context=server_context()) as listener:
        listener.settimeout(PATIENCE_S)
        with ss.SecureSocket(context=under(client_context())) as sock:
            ws.WSASetSocketSecurity(sock, settings)
            ws.WSASetSocketPeerTargetName(sock, ws.SOCKET_PEER_TARGET_NAME(PeerTargetName="host/server.example"))
            accepting = threading.Thread(target=lambda: listener.accept()[0].close())
            accepting.start()
            sock.connect(listener.getsockname())
            info = ws.WSAQuerySocketSecurity(sock, ws.SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(FieldMask=3))
            context = fwpm.IPsecSaContextGetById1(engine, info.QmSaId)
            (sa,) = context.outboundSa.saBundle.saList
            assert sa.transform == AES_128_GCM
            assert context.outboundSa.saBundle.lifetime.seconds == 3600
            # the sample's own way: the filter of the flow, and the SA that stands by it
            ours, theirs = sock.getsockname(), sock.getpeername()
            template = FilterTemplate(
                layer=Layer.OUTBOUND_TRANSPORT_V4,
                enum_type=EnumType.FULLY_CONTAINED,
                flags=int(EnumFlag.BEST_TERMINATING_MATCH),
                action_mask=0x1000,
                conditions=(
                    match(Field.IP_LOCAL_ADDRESS, ours[0]),
                    match(Field.IP_REMOTE_ADDRESS, theirs[0]),
                    match(Field.IP_LOCAL_PORT, ours[1]),
                    match(Field.IP_REMOTE_PORT, theirs[1]),
                    match(Field.IP_PROTOCOL, 6),
                    match(Field.IP_LOCAL_ADDRESS_TYPE, 1),
                ),
            )
            handle = fwpm.FwpmFilterCreateEnumHandle0(engine, template)
            (rule,) = fwpm.FwpmFilterEnum0(engine, handle, 2)
            assert rule.action.is_callout
            assert context.outboundSa.transportFilter is not None
            assert context.outboundSa.transportFilter.id == rule.id == context.outboundSa.traffic.ipsecFilterId
            with refused(PolicyCode.IN_USE):
                fwpm.FwpmProviderContextDeleteByKey0(engine, key)
        accepting.join(PATIENCE_S)
    until(lambda: fwpm.FwpmProviderContextDeleteByKey0(engine, key) == 0 if _gone(engine, rule.id) else False)


def _gone(engine: int, number: int) -> bool:
    try:
        fwpm.FwpmFilterGetById0(engine, number)
    except PolicyError:
        return True
    return False


def test_the_sas_of_a_connection_are_found_by_what_the_query_says(engine: int) -> None:
    with connected() as (ours, theirs):
        template = ws.SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(FieldMask=3)
        info, peers = (ws.WSAQuerySocketSecurity(each, template) for each in (ours, theirs))
        assert isinstance(info, ws.SOCKET_SECURITY_QUERY_INFO_IPSEC2)
        assert isinstance(peers, ws.SOCKET_SECURITY_QUERY_INFO_IPSEC2)
        main = fwpm.IkeextSaGetById1(engine, info.MmSaId, info.SaLookupContext)
        assert main == fwpm.IkeextSaGetById0(engine, info.MmSaId)
        other = fwpm.IkeextSaGetById2(engine, peers.MmSaId, peers.SaLookupContext)
        assert main.keyModuleType is KeyModuleType.IKEV2
        assert main.cookiePair == other.cookiePair
        assert main.cookiePair.initiator == main.saId
        assert main.cookiePair.responder == other.saId
        assert main.ikeTraffic.localAddress == main.ikeTraffic.remoteAddress == "127.0.0.1"
        (pair,) = main.ikeCredentials
        assert pair.peerCredentials.principalName == "host/server.example"
        assert pair.localCredentials.principalName == "host/client.example"
        assert pair.peerCredentials.authenticationMethodType is AuthMethodType.CERTIFICATE
        offered = {(each.cipher, each.dh_group) for each in MODERN_MAIN_MODE.content.proposals}
        assert (main.ikeProposal.cipher, main.ikeProposal.dh_group) in offered
        context = fwpm.IPsecSaContextGetById0(engine, info.QmSaId)
        (inbound,), (outbound,) = context.inboundSa.saBundle.saList, context.outboundSa.saBundle.saList
        theirs_context = fwpm.IPsecSaContextGetById0(engine, peers.QmSaId)
        assert theirs_context.inboundSa.saBundle.saList[0].spi == outbound.spi
        assert theirs_context.outboundSa.saBundle.saList[0].spi == inbound.spi
        bundle = context.outboundSa.saBundle
        assert (bundle.mmSaId, bundle.numSAs, bundle.saLookupContext) == (info.MmSaId, 1, info.SaLookupContext)
        assert bundle.ipsecId.mmTargetName == "host/server.example"
        assert bundle.pfsGroup is PfsGroup.NONE
        assert outbound.transform in [each.transforms[0] for each in MODERN_QUICK_MODE.content.proposals]
        traffic = context.outboundSa.traffic
        assert (traffic.localPort, traffic.remotePort) == (ours.getsockname()[1], ours.getpeername()[1])
        assert traffic.ipProtocol == 6
    for call, number in ((fwpm.IkeextSaGetById0, info.MmSaId), (fwpm.IPsecSaContextGetById1, info.QmSaId)):
        with refused(PolicyCode.NOT_FOUND):
            call(engine, number)


def test_a_lookup_context_of_another_sa_finds_nothing(engine: int) -> None:
    with connected() as (ours, _):
        info = ours.query_security()
        with refused(PolicyCode.NOT_FOUND):
            fwpm.IkeextSaGetById1(engine, info.main_mode_sa_id, uuid4())


def test_sas_are_enumerated_by_addresses_and_our_certificate(engine: int) -> None:
    with connected() as (ours, _):
        mine = ours.query_security()
        for subnet, is_there in (("127.0.0.1", True), ("127.0.0.0/8", True), ("", True), ("192.0.2.0/24", False)):
            template = fwpm.IPSEC_SA_CONTEXT_ENUM_TEMPLATE0(remoteSubNet=subnet)
            handle = fwpm.IPsecSaContextCreateEnumHandle0(engine, template)
            found = fwpm.IPsecSaContextEnum1(engine, handle, 100)
            assert (mine.quick_mode_sa_id in {each.saContextId for each in found}) is is_there
            fwpm.IPsecSaContextDestroyEnumHandle0(engine, handle)
            handle = fwpm.IkeextSaCreateEnumHandle0(engine, fwpm.IKEEXT_SA_ENUM_TEMPLATE0(subnet))
            assert (mine.main_mode_sa_id in {each.saId for each in fwpm.IkeextSaEnum1(engine, handle, 100)}) is is_there
            fwpm.IkeextSaDestroyEnumHandle0(engine, handle)
        mine_by_hash = fwpm.IkeextSaGetById0(engine, mine.main_mode_sa_id).ikeCredentials[0].localCredentials.certHash
        for wanted, is_there in ((mine_by_hash.upper(), True), ("00" * 20, False)):
            handle = fwpm.IkeextSaCreateEnumHandle0(engine, fwpm.IKEEXT_SA_ENUM_TEMPLATE0("", "", wanted))
            assert (mine.main_mode_sa_id in {each.saId for each in fwpm.IkeextSaEnum0(engine, handle, 100)}) is is_there
        with refused(PolicyCode.INVALID_NET_MASK):
            fwpm.IPsecSaContextCreateEnumHandle0(engine, fwpm.IPSEC_SA_CONTEXT_ENUM_TEMPLATE0("127.0.0.1/99"))


def test_statistics_count_what_happens(engine: int) -> None:
    before = fwpm.IPsecGetStatistics1(engine).aggregateSaStatistics
    with connected():
        now = fwpm.IPsecGetStatistics0(engine).aggregateSaStatistics
        assert now.totalSasAdded - before.totalSasAdded == 2
        assert now.activeSas == before.activeSas + 2
        ike = fwpm.IkeextGetStatistics0(engine).ikeV2Statistics
        assert ike.currentActiveQuickModes == now.activeSas
        assert ike.totalMainModesStarted >= ike.totalSuccessfulMainModes + ike.totalFailedMainModes
    after = fwpm.IPsecGetStatistics1(engine).aggregateSaStatistics
    assert after.totalSasDeleted == after.totalSasAdded - after.activeSas
    failures = fwpm.IkeextGetStatistics1(engine).ikeV2Statistics.errorFrequencyTable
    with ss.create_server(("127.0.0.1", 0), context=server_context()) as listener:
        with pytest.raises(ss.AuthenticationFailed):
            ss.create_connection(
                listener.getsockname(), PATIENCE_S, peer="host/server.example", context=stranger_context()
            )
        until(lambda: sum(listener.refusals.values()) == 1)
    now_failed = fwpm.IkeextGetStatistics1(engine).ikeV2Statistics.errorFrequencyTable
    assert len(now_failed) == 97
    index = int(ws.ERROR_IPSEC_IKE_AUTH_FAIL) - 13800
    assert now_failed[index] > failures[index]


def test_a_failure_of_a_socket_under_this_engine_is_a_net_event(engine: int) -> None:
    heard: list[str] = []
    handle = fwpm.FwpmNetEventSubscribe0(engine, None, lambda event: heard.append(event.type.name))
    with (
        ss.create_server(("127.0.0.1", 0), context=server_context()) as listener,
        pytest.raises(ss.AuthenticationFailed),
    ):
        ss.create_connection(
            listener.getsockname(), PATIENCE_S, peer="host/other.example", context=under(client_context())
        )
    until(lambda: "IKEEXT_MM_FAILURE" in heard)
    assert fwpm.FwpmNetEventUnsubscribe0(engine, handle) == 0
    events = fwpm.FwpmNetEventCreateEnumHandle0(engine)
    assert "IKEEXT_MM_FAILURE" in [each.type.name for each in fwpm.FwpmNetEventEnum1(engine, events, 50)]
    fwpm.FwpmNetEventDestroyEnumHandle0(engine, events)
    assert fwpm.FwpmEngineGetOption0(engine, fwpm.FWPM_ENGINE_COLLECT_NET_EVENTS) == 1
    fwpm.FwpmEngineSetOption0(engine, fwpm.FWPM_ENGINE_COLLECT_NET_EVENTS, 0)
    with refused(PolicyCode.NET_EVENTS_DISABLED):
        fwpm.FwpmNetEventCreateEnumHandle0(engine)
    with refused(PolicyCode.INVALID_ENUMERATOR):
        fwpm.FwpmEngineGetOption0(engine, 4)
