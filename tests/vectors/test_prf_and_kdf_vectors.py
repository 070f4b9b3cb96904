"""Published values of the PRFs, prf+ and the key derivations of IKEv2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes

from securesock.crypto import prf as prf_module
from securesock.crypto import suites
from securesock.crypto.esp_cipher import make_esp_cipher
from securesock.crypto.kdf import DirectionKeys, derive_child_keys, derive_ike_keys, initial_skeyseed, rekey_skeyseed
from securesock.crypto.prf import compute_prf, prf_plus
from securesock.crypto.suites import Encryption, EspSuite, IkeSuite, Integrity, Prf

DATA = Path(__file__).parent / "data"
PRFS = {each.hash_name: each for each in suites.PRFS.values()}
INTEGRITIES = {each.hash_name: each for each in suites.INTEGRITIES.values()}


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DATA / name).read_text())
    return loaded


RFC_4231 = load("hmac_rfc4231.json")["cases"]
RFC_4868 = load("hmac_sha2_rfc4868.json")["cases"]
CAVP_SHA2 = load("kdf_cavp_sha2.json")["cases"]
CAVP_SHA1 = load("kdf_cavp_sha1.json")


@pytest.mark.parametrize("case", RFC_4231, ids=lambda case: case["case"])
@pytest.mark.parametrize("hash_name", ["sha256", "sha384", "sha512"])
def test_prf_of_rfc_4231(case: dict[str, Any], hash_name: str) -> None:
    out = compute_prf(PRFS[hash_name], bytes.fromhex(case["key"]), bytes.fromhex(case["data"]))
    expected = bytes.fromhex(case[hash_name])
    assert len(out) == PRFS[hash_name].output_length
    assert out[: len(expected)] == expected
    assert len(expected) == (16 if case["case"] == 5 else PRFS[hash_name].output_length)


@pytest.mark.parametrize("case", RFC_4868, ids=lambda case: case["case"])
def test_prf_and_icv_of_rfc_4868(case: dict[str, Any]) -> None:
    key, data = bytes.fromhex(case["key"]), bytes.fromhex(case["data"])
    integrity = INTEGRITIES[case["hash_name"]]
    assert len(key) == integrity.key_length
    assert compute_prf(PRFS[case["hash_name"]], key, data).hex() == case["full"]
    # as the ICV of an ESP packet of these bytes: NULL encryption, no ESN, so that nothing else is covered
    cipher = make_esp_cipher(EspSuite(suites.NULL, integrity, esn=False), DirectionKeys(b"", key))
    packet = bytearray(data + bytes(integrity.icv_length))
    cipher.seal_packet(memoryview(packet), int.from_bytes(data[4:8], "big"))
    assert packet[len(data) :].hex() == case["truncated"]


@pytest.mark.parametrize("case", CAVP_SHA2, ids=lambda case: case["hash_name"])
def test_skeyseed_and_keys_of_nist_cavp(case: dict[str, Any]) -> None:
    prf = PRFS[case["hash_name"]]
    nonces, spis = bytes.fromhex(case["nonces"]), bytes.fromhex(case["spis"])
    split = len(nonces) // 2  # the set has the two nonces joined; only their concatenation enters
    skeyseed = initial_skeyseed(prf, nonces[:split], nonces[split:], bytes.fromhex(case["g_ir"]))
    assert skeyseed.hex() == case["skeyseed"]
    dkm = bytes.fromhex(case["dkm"])
    assert prf_plus(prf, skeyseed, nonces + spis, len(dkm)) == dkm
    # and by name, as far as the published bytes go
    suite = IkeSuite(suites.AES_128_GCM_16, None, prf, suites.X25519)
    keys = derive_ike_keys(suite, skeyseed, nonces[:split], nonces[split:], spis[:8], spis[8:])
    joined = b"".join(keys)
    common = min(len(joined), len(dkm))
    assert joined[:common] == dkm[:common]
    assert [len(key) for key in keys] == [prf.output_length, 0, 0, 20, 20, prf.output_length, prf.output_length]


@pytest.fixture
def prf_sha1(monkeypatch: pytest.MonkeyPatch) -> Prf:
    """PRF-HMAC-SHA1, which the product does not have."""
    monkeypatch.setattr(prf_module, "HASHES", {"sha1": hashes.SHA1()})
    return Prf("PRF-HMAC-SHA1", 2, 20, "sha1")


def test_every_derivation_of_nist_cavp_with_sha1(prf_sha1: Prf) -> None:
    case = {name: bytes.fromhex(value) for name, value in CAVP_SHA1.items() if name not in ("source", "note")}
    nonces = case["nonce_i"], case["nonce_r"]
    skeyseed = initial_skeyseed(prf_sha1, *nonces, case["g_ir"])
    assert skeyseed == case["skeyseed"]

    # 3 * 20 + 2 * 20 + 2 * 16 = 132 bytes, what the set has
    integrity = Integrity("HMAC-SHA1-96", 2, 20, 12, "sha1")
    suite = IkeSuite(suites.AES_128_CBC, integrity, prf_sha1, suites.X25519)
    keys = derive_ike_keys(suite, skeyseed, *nonces, case["spi_i"], case["spi_r"])
    assert b"".join(keys) == case["dkm"]
    assert keys.sk_d == case["dkm"][:20]
    assert keys.sk_pr == case["dkm"][-20:]

    # 2 * (46 + 20) = 132 bytes: one direction after the other, in each encryption before integrity
    child = EspSuite(Encryption("46 BYTES", 65535, None, 40, 6, 0, 0, 4, False), integrity)
    first, second = derive_child_keys(prf_sha1, keys.sk_d, child, *nonces)
    assert first.encryption + first.integrity + second.encryption + second.integrity == case["child_keymat"]
    assert (len(first.encryption), len(first.integrity)) == (46, 20)
    assert (len(second.encryption), len(second.integrity)) == (46, 20)

    first, second = derive_child_keys(prf_sha1, keys.sk_d, child, *nonces, shared=case["g_ir_new"])
    assert first.encryption + first.integrity + second.encryption + second.integrity == case["child_keymat_with_dh"]
    assert rekey_skeyseed(prf_sha1, keys.sk_d, case["g_ir_new"], *nonces) == case["rekey_skeyseed"]
