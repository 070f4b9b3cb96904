"""SECURESOCK_KEYLOG: the lines fit what was installed, the files are private, and nothing is logged unasked."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from securesock.crypto.suites import CHACHA20_POLY1305, PRF_HMAC_SHA2_256, X25519
from securesock.drivers import keylog
from securesock.identity.identity import Identity
from securesock.keying.contract import KeyingConfig, KeyMaterial, SendDatagram
from securesock.policy.negotiation import IkeOffer, main_mode_offers
from securesock.testing import Pair


@pytest.fixture(scope="module")
def identities() -> tuple[Identity, Identity]:
    return (
        Identity.from_psk(name="initiator.example", peers={"responder.example": b"s" * 32}),
        Identity.from_psk(name="responder.example", peers={"initiator.example": b"s" * 32}),
    )


def logging(config: KeyingConfig) -> KeyingConfig:
    main_mode = replace(config.main_mode, offers=main_mode_offers("classical"))
    return replace(config, log_keys=True, main_mode=main_mode)


def material(pair: Pair, end: str) -> list[KeyMaterial]:
    return [each for each in getattr(pair, end).actions if isinstance(each, KeyMaterial)]


def test_both_ends_log_the_same_keys(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities, initiator=logging, responder=logging).establish()
    pair.initiator.session.rekey_child(pair.clock.now())
    pair.settle()
    ours, peers = material(pair, "initiator"), material(pair, "responder")
    assert set(ours) == set(peers)
    assert sorted(each.table for each in ours) == ["esp_sa"] * 4 + ["ikev2_decryption_table"]


def test_the_lines_hold_what_was_installed(identities: tuple[Identity, Identity]) -> None:
    pair = Pair(*identities, initiator=logging, responder=logging).establish()
    sealing = pair.initiator.outbound
    assert sealing is not None
    lines = {each.line for each in material(pair, "initiator")}
    key = sealing.keys.encryption.hex()
    names = f'"IPv4","*","*","0x{sealing.spi:08x}","AES-GCM with 16 octet ICV [RFC4106]"'
    assert f'{names},"0x{key}","NULL","","64-bit","0"' in lines
    first = next(each.data for each in pair.responder.actions if isinstance(each, SendDatagram))
    ike = next(each.line for each in material(pair, "initiator") if each.table == "ikev2_decryption_table")
    assert ike.startswith(f"{first[:8].hex()},{first[8:16].hex()},")
    assert '"AES-GCM-256 with 16 octet ICV [RFC5282]",,,"NONE [RFC4306]"' in ike


def test_an_ike_sa_that_wiresharks_table_has_no_word_for_is_a_remark_in_it(
    identities: tuple[Identity, Identity],
) -> None:
    def with_chacha20(config: KeyingConfig) -> KeyingConfig:
        offer = IkeOffer((CHACHA20_POLY1305,), (), (PRF_HMAC_SHA2_256,), (X25519,))
        return replace(config, log_keys=True, main_mode=replace(config.main_mode, offers=(offer,)))

    pair = Pair(*identities, initiator=with_chacha20, responder=with_chacha20).establish()
    (line,) = (each.line for each in material(pair, "initiator") if each.table == "ikev2_decryption_table")
    assert line.startswith("# ")


def test_nothing_is_logged_unasked_and_no_repr_shows_a_key(identities: tuple[Identity, Identity]) -> None:
    assert material(Pair(*identities).establish(), "initiator") == []
    logged = material(Pair(*identities, initiator=logging, responder=logging).establish(), "initiator")
    assert all(each.line not in repr(each) for each in logged)


def logged_exchange(identities: tuple[Identity, Identity], folder: Path) -> keylog.KeyLoggingSession:
    """An initiator that writes its keys into ``folder``, with a whole key exchange behind it; no key came out of it."""
    pair = Pair(*identities, initiator=logging, responder=logging)
    session = keylog.KeyLoggingSession(pair.initiator.session, folder)
    responder, now = pair.responder.session, pair.clock.now()
    session.handle_acquire(now)
    for _ in range(3):
        while (action := session.poll_action()) is not None:
            assert not isinstance(action, KeyMaterial)
            if isinstance(action, SendDatagram):
                responder.handle_datagram(action.data, now)
        while (answer := responder.poll_action()) is not None:
            if isinstance(answer, SendDatagram):
                session.handle_datagram(answer.data, now)
    return session


def test_the_plane_never_sees_keys_and_the_files_are_the_owners(
    identities: tuple[Identity, Identity], tmp_path: Path
) -> None:
    session = logged_exchange(identities, tmp_path)
    assert session.established
    files = {each.name: each for each in tmp_path.iterdir()}
    assert set(files) == {"esp_sa", "ikev2_decryption_table"}
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in files.values())
    assert len(files["esp_sa"].read_text().splitlines()) == 2


def test_it_is_said_loudly_and_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(keylog.VARIABLE, str(tmp_path))
    with pytest.warns(RuntimeWarning, match="whoever reads them reads the traffic"):
        assert keylog.keylog_folder() == tmp_path
    assert keylog.keylog_folder() == tmp_path
    monkeypatch.delenv(keylog.VARIABLE)
    assert keylog.keylog_folder() is None


def test_a_folder_that_is_not_there_is_made_for_its_owner_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "not" / "there"
    monkeypatch.setenv(keylog.VARIABLE, str(folder))
    with pytest.warns(RuntimeWarning, match="reads the traffic"):
        assert keylog.keylog_folder() == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_where_no_folder_can_be_made_that_is_said_and_nothing_is_logged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(keylog.VARIABLE, str(tmp_path / "file" / "folder"))
    with pytest.warns(RuntimeWarning, match="nothing is written.*name a folder"):
        assert keylog.keylog_folder() is None
    assert keylog.keylog_folder() is None


def test_keys_that_cannot_be_written_end_no_key_exchange(identities: tuple[Identity, Identity], tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="were not written"):
        session = logged_exchange(identities, tmp_path / "gone")
    assert session.established
