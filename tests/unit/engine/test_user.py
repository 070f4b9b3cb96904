"""Whom a connecting socket proves, to whom it would, and how often strangers may fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from securesock.engine.applied import ANY_USER, Applied, UserRule
from securesock.engine.asking import expected_peer
from securesock.engine.connect import accepting, connecting
from securesock.engine.context import SecurityContext
from securesock.engine.user import check_listening, check_user, proves_a_user, user_proof, wipe_password
from securesock.engine.user_tries import AT_ONCE, MAX_SOURCES, ONE_MORE_S, UserTries
from securesock.errors import LocalMisuse
from securesock.identity.identity import Identity
from securesock.identity.ppk import Ppk
from securesock.identity.users import Users
from securesock.keying.admission import AdmitAnyTrusted
from securesock.keying.contract import KeyingConfig
from securesock.types import ANY_TRUSTED_PEER, IPsecSettings, Principal, SecuritySettings

OUR, PEER = ("192.0.2.1", 40000), ("192.0.2.2", 7000)
PASSWORD = "correct horse battery staple"
SERVER = expected_peer("host/server.example")


@pytest.fixture(scope="module")
def machine() -> Identity:
    return Identity.ephemeral("host/client.example")


@pytest.fixture(scope="module")
def alice(machine: Identity) -> Identity:
    return Identity.ephemeral(["host/laptop.example", "alice@example.org"], authority=machine.authority)


def test_a_password_proves_the_user_of_the_settings(machine: Identity) -> None:
    settings = IPsecSettings(user_name="alice", domain_name="EXAMPLE.org", password=PASSWORD)
    proof = user_proof(SecurityContext(machine), settings)
    assert proof is not None
    assert proof.principal == Principal("alice@example.org", "user", "eap")
    assert proof.ike_id.data == b"alice@example.org"
    assert proof.password.matches(PASSWORD.encode())
    proof.password.wipe()
    assert settings.password  # that was a copy
    assert PASSWORD not in repr(proof)


def test_a_certificate_of_the_context_proves_its_user(machine: Identity, alice: Identity) -> None:
    context = SecurityContext(machine, user=alice)
    for settings in (SecuritySettings(), IPsecSettings(user_name="alice@example.org")):
        proof = user_proof(context, settings)
        assert proof is not None
        assert proof.certificate is alice
        assert proof.principal == Principal("alice@example.org", "user", "eap", alice.fingerprint or "")
        assert proves_a_user(context, settings)
    with pytest.raises(LocalMisuse, match="does not name bob"):
        user_proof(context, IPsecSettings(user_name="bob@example.org"))


def test_without_a_user_there_is_none_to_prove(machine: Identity) -> None:
    context = SecurityContext(machine)
    assert user_proof(context, SecuritySettings()) is None
    assert user_proof(context, IPsecSettings(guarantee_encryption=True)) is None
    assert not proves_a_user(context, IPsecSettings())
    check_user(context, SecuritySettings(), None)


@pytest.mark.parametrize(
    "settings",
    [
        IPsecSettings(user_name="alice"),
        IPsecSettings(domain_name="EXAMPLE"),
        IPsecSettings(password=PASSWORD),
        IPsecSettings(user_name="host/alice", password=PASSWORD),
        IPsecSettings(user_name="alice@example.org", domain_name="example.org", password=PASSWORD),
        IPsecSettings(user_name="alice", password=b"\xff is no UTF-8"),
    ],
)
def test_half_a_user_is_misuse_and_shows_no_password(machine: Identity, settings: IPsecSettings) -> None:
    with pytest.raises(LocalMisuse) as caught:
        user_proof(SecurityContext(machine), settings)
    assert PASSWORD not in str(caught.value)


def test_a_copy_of_settings_has_no_password_says_so_and_takes_none_away(machine: Identity) -> None:
    settings = IPsecSettings(user_name="alice", password=PASSWORD)
    copied = replace(settings, guarantee_encryption=True)
    with pytest.raises(LocalMisuse, match="no copy of settings has it"):
        user_proof(SecurityContext(machine), copied)
    wipe_password(copied)
    assert settings.password.matches(PASSWORD.encode())
    given_again = replace(settings, password="another")
    wipe_password(settings)
    assert given_again.password.matches(b"another")


def test_a_password_that_was_used_says_so(machine: Identity) -> None:
    settings = IPsecSettings(user_name="alice", password=PASSWORD)
    wipe_password(settings)
    with pytest.raises(LocalMisuse, match="overwritten once a negotiation has used it"):
        user_proof(SecurityContext(machine), settings)
    wipe_password(SecuritySettings())


@pytest.mark.parametrize("named", [None, ANY_TRUSTED_PEER])
def test_a_user_is_proven_to_nobody_but_a_machine_that_was_named(
    machine: Identity, alice: Identity, named: object
) -> None:
    settings = IPsecSettings(user_name="alice", password=PASSWORD)
    for context, asked in (
        (SecurityContext(machine), settings),
        (SecurityContext(machine, user=alice), SecuritySettings()),
    ):
        with pytest.raises(LocalMisuse, match="machine that is named"):
            check_user(context, asked, named)
        check_user(context, asked, SERVER)
    with pytest.raises(LocalMisuse, match="machine that is named"):
        connecting(SecurityContext(machine), settings, ANY_TRUSTED_PEER, OUR, PEER, 0.0)


def test_a_listener_proves_no_user(machine: Identity) -> None:
    settings = IPsecSettings(user_name="alice", password=PASSWORD)
    with pytest.raises(LocalMisuse, match="listener"):
        check_listening(settings)
    check_listening(SecuritySettings())
    # a datagram socket that proves a user lets nobody begin, as it would prove itself as a machine then
    config = accepting(SecurityContext(machine), settings, OUR, PEER, 0.0, AdmitAnyTrusted())
    assert config.admission.refusal(Principal("host/a.example")) is not None


def test_what_the_context_says_of_users_and_keys_reaches_the_machines(machine: Identity, alice: Identity) -> None:
    users = Users(certificates=True)
    ppk = Ppk("id", bytes(32))
    context = SecurityContext(machine, users=users, user=alice, eap_only=True, ppks=[ppk])
    ours = connecting(context, SecuritySettings(), SERVER, OUR, PEER, 0.0)
    assert ours.user is not None
    assert (ours.users, ours.eap_only, ours.ppks) == (None, True, (ppk,))
    theirs = accepting(context, SecuritySettings(), OUR, PEER, 0.0, AdmitAnyTrusted())
    assert (theirs.user, theirs.users, theirs.eap_only, theirs.ppks) == (None, users, True, (ppk,))
    assert theirs.user_tries is context.user_tries
    assert theirs.admission.refusal(Principal("host/a.example")) is None


def test_a_context_that_contradicts_itself_is_misuse(machine: Identity, alice: Identity) -> None:
    users = Users({"alice": PASSWORD})
    shared = Identity.from_psk("a.example", {"b.example": bytes(16)})
    for identity, more, said in (
        (shared, {"users": users}, "certificate"),
        (machine, {"users": {"alice": PASSWORD}}, "Users"),
        (machine, {"user": machine}, "mailbox"),
        (machine, {"users": users, "eap_only": True}, "eap_only"),
        (machine, {"eap_only": True}, "eap_only"),
        (machine, {"ppks": ["id"]}, "Ppk"),
        (Identity.anonymous(), {"ppks": [Ppk("id", bytes(32), mandatory=False)]}, "mandatory"),
    ):
        with pytest.raises(LocalMisuse, match=said):
            SecurityContext(identity, **more)
    assert SecurityContext(machine) == SecurityContext(machine)  # tries are no part of what it is


# tries


def fail(tries: UserTries, times: int, host: str = "192.0.2.9", now: float = 0.0) -> None:
    for _ in range(times):
        tries.failed(host, now)


def test_a_source_has_some_tries_and_gets_one_back_in_time() -> None:
    tries = UserTries()
    fail(tries, AT_ONCE - 1)
    assert tries.may_try("192.0.2.9", 0.0)
    fail(tries, 1)
    assert not tries.may_try("192.0.2.9", 0.0)
    assert not tries.may_try("192.0.2.9", ONE_MORE_S - 1)
    assert tries.may_try("192.0.2.9", ONE_MORE_S)
    fail(tries, 1, now=ONE_MORE_S)
    assert not tries.may_try("192.0.2.9", ONE_MORE_S + 1)
    assert tries.may_try("192.0.2.9", 1000 * ONE_MORE_S)


def test_others_are_not_held_back_but_the_same_network_is() -> None:
    tries = UserTries()
    fail(tries, AT_ONCE)
    fail(tries, AT_ONCE, "2001:db8::1")
    assert tries.may_try("192.0.2.8", 0.0)
    assert not tries.may_try("2001:db8::2", 0.0)
    assert tries.may_try("2001:db8:0:1::1", 0.0)
    assert not tries.may_try("::ffff:192.0.2.9", 0.0)


def test_the_table_is_bounded_and_the_oldest_goes_first() -> None:
    tries = UserTries()
    fail(tries, AT_ONCE)
    for number in range(MAX_SOURCES):
        tries.failed(f"10.{number >> 8 & 255}.{number & 255}.1", 0.0)
    assert len(tries._sources) == MAX_SOURCES
    assert tries.may_try("192.0.2.9", 0.0)


def test_a_childs_lock_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from securesock.engine.fork import process

    tries = UserTries()
    tries._lock.acquire()  # as a thread of the parent may have
    monkeypatch.setattr(process, "generation", process.generation + 1)
    assert tries.may_try("192.0.2.9", 0.0)


def test_a_stored_main_mode_policy_says_what_may_be_done_about_users(machine: Identity, alice: Identity) -> None:
    context = SecurityContext(machine, users=Users(certificates=True), user=alice)
    plain = SecurityContext(machine)
    asked = SecuritySettings()

    def applied(rule: UserRule) -> Applied:
        return Applied(asked, machine, context.main_mode, context.quick_mode, users=rule)

    def accepted(rule: UserRule) -> KeyingConfig:
        return accepting(context, asked, OUR, PEER, 0.0, AdmitAnyTrusted(), applied=applied(rule))

    no, alone = UserRule(False, False), UserRule(machines=False)
    assert accepted(no).users is None
    with pytest.raises(LocalMisuse, match="names no method for it"):
        connecting(context, asked, SERVER, OUR, PEER, 0.0, applied=applied(no))
    assert connecting(plain, asked, SERVER, OUR, PEER, 0.0, applied=applied(no)).user is None
    assert connecting(context, asked, SERVER, OUR, PEER, 0.0, applied=applied(ANY_USER)).user is not None
    assert accepted(ANY_USER).users is context.users
    # EAP and nothing else: no machine comes in by itself, and none of ours goes without a user
    with pytest.raises(LocalMisuse, match="wants a user proven"):
        connecting(plain, asked, SERVER, OUR, PEER, 0.0, applied=applied(alone))
    admission = accepted(alone).admission
    assert admission.pins == ()
    assert admission.refusal(Principal("host/a.example")) is not None
    assert admission.refusal(Principal("alice@example.org", "user", "eap")) is None
