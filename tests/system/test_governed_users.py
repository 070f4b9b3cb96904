"""Users under a filtering platform: main mode policies that name EAP, or forbid it, and what filters say of users."""

from __future__ import annotations

import pytest

import securesock as ss
from securesock.policy import FilterEngine, Layer, ProviderContext
from securesock.policy.ipsec import AuthenticationMethod, EapAuthentication
from securesock.policy.ipsec_numbers import AuthMethodType
from tests.support.governed import CERTIFICATE, main_mode, policy_filter, under
from tests.support.loopback import PATIENCE_S, accepted, until
from tests.system.test_users import (
    ALICE,
    LOCALHOST,
    PASSWORD,
    SERVER,
    asked,
    assert_alice,
    certificate_context,
    client_context,
    server_context,
)

EAP = AuthenticationMethod(AuthMethodType.EAP, EapAuthentication())


def _server(engine: FilterEngine, *methods: AuthenticationMethod) -> ss.SecurityContext:
    policy = engine.provider_contexts.add(main_mode(*methods))
    for layer in (Layer.IKEEXT_V4, Layer.IKEEXT_V6):
        engine.filters.add(policy_filter(layer, policy))
    return under(server_context(), engine)


def _connect(
    listener: ss.SecureSocket, context: ss.SecurityContext, settings: ss.SecuritySettings | None = None
) -> ss.SecureSocket:
    return ss.create_connection(listener.getsockname(), PATIENCE_S, peer=SERVER, settings=settings, context=context)


def _asked_under(policy: ProviderContext) -> ss.IPsecSettings:
    return ss.IPsecSettings(guarantee_encryption=True, user_name=ALICE, password=PASSWORD, main_mode_policy=policy.key)


def test_a_policy_of_eap_alone_lets_users_in_and_no_machine() -> None:
    with (
        FilterEngine.open() as engine,
        ss.create_server((LOCALHOST, 0), context=_server(engine, EAP)) as listener,
    ):
        for context, settings in ((client_context(), asked()), (certificate_context(), None)):
            with _connect(listener, context, settings) as client:
                server = accepted(listener)
                with server:
                    found = server.query_security()
                    assert found.peer_user is not None
                    assert found.peer_user.name == ALICE
                    assert found.peer_machine is None
                    assert found.main_mode_policy is not None
                client.close()
        with pytest.raises(ss.AuthenticationFailed):
            _connect(listener, client_context())
        until(lambda: sum(listener.refusals.values()) == 1)


def test_a_policy_without_eap_lets_machines_in_and_no_user() -> None:
    with (
        FilterEngine.open() as engine,
        ss.create_server((LOCALHOST, 0), context=_server(engine, CERTIFICATE)) as listener,
    ):
        with _connect(listener, client_context()):
            server = accepted(listener)
            with server:
                assert server.query_security().peer_user is None
        with pytest.raises(ss.AuthenticationFailed):
            _connect(listener, client_context(), asked())


def test_the_end_that_begins_proves_its_user_under_a_policy_of_its_own() -> None:
    with FilterEngine.open() as engine, ss.create_server((LOCALHOST, 0), context=server_context()) as listener:
        policy = engine.provider_contexts.add(main_mode(EAP))
        context = under(client_context(), engine)
        settings = _asked_under(policy)
        with _connect(listener, context, settings) as client:
            server = accepted(listener)
            with server:
                assert_alice(server.query_security())
                assert client.query_security().main_mode_policy == policy.key
        assert not settings.password
        without = ss.IPsecSettings(guarantee_encryption=True, main_mode_policy=policy.key)
        with pytest.raises(ss.LocalMisuse, match="user"):
            _connect(listener, context, without)
        no_method = engine.provider_contexts.add(main_mode(CERTIFICATE))
        with pytest.raises(ss.LocalMisuse, match="user"):
            _connect(listener, context, _asked_under(no_method))


def test_a_policy_that_forbids_users_later_breaks_the_connection_of_one() -> None:
    with (
        FilterEngine.open() as engine,
        ss.create_server((LOCALHOST, 0), context=_server(engine, CERTIFICATE, EAP)) as listener,
        _connect(listener, client_context(), asked()) as client,
    ):
        server = accepted(listener)
        with server:
            assert_alice(server.query_security())
            server.settimeout(PATIENCE_S)
            stronger = engine.provider_contexts.add(main_mode(CERTIFICATE))
            for each in engine.filters.enumerate():
                if each.layer is Layer.IKEEXT_V4 and each.name == "another's policy":
                    engine.filters.delete(each)
            engine.filters.add(policy_filter(Layer.IKEEXT_V4, stronger))
            with pytest.raises(ss.ConnectionBroken):
                server.recv(1)
        client.close()
