"""Published values of the key exchange groups, by our own key exchange objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from securesock.crypto import suites
from securesock.crypto.key_exchange import begin_key_exchange
from securesock.crypto.modp import ModpPrivateKey
from securesock.crypto.suites import KeyExchangeMethod

DATA = Path(__file__).parent / "data"


def cases_of(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((DATA / name).read_text())["cases"]
    return cases


class OneValue:
    """Entropy that hands out one value, once."""

    def __init__(self, value: str) -> None:
        self.values = [bytes.fromhex(value)]

    def token(self, length: int) -> bytes:
        value = self.values.pop()
        # a scalar of P-521 is drawn as 528 bits of which the last 7 are dropped
        if length == 66:
            value = (int.from_bytes(value, "big") << 7).to_bytes(66, "big")
        assert len(value) == length
        return value


def check(method: KeyExchangeMethod, case: dict[str, Any]) -> None:
    initiator = begin_key_exchange(method, OneValue(case["private_i"]))
    responder = begin_key_exchange(method, OneValue(case["private_r"]))
    assert initiator.public.hex() == case["public_i"]
    assert responder.public.hex() == case["public_r"]
    assert initiator.finish(responder.public).hex() == case["shared"]
    assert responder.finish(initiator.public).hex() == case["shared"]


@pytest.mark.parametrize("case", cases_of("ecdh_rfc5903.json"), ids=lambda case: f"group {case['transform_id']}")
def test_nist_curves_of_rfc_5903(case: dict[str, Any]) -> None:
    check(suites.KEY_EXCHANGES[case["transform_id"]], case)


@pytest.mark.parametrize("case", cases_of("x25519.json"), ids=lambda case: case["source"])
def test_x25519_of_rfc_7748_and_rfc_8031(case: dict[str, Any]) -> None:
    check(suites.X25519, case)


@pytest.mark.parametrize("case", cases_of("modp_2048.json"))
def test_modp_2048(case: dict[str, Any]) -> None:
    initiator = ModpPrivateKey(bytes.fromhex(case["private_i"]))
    responder = ModpPrivateKey(bytes.fromhex(case["private_r"]))
    assert initiator.public.hex() == case["public_i"]
    assert responder.public.hex() == case["public_r"]
    assert initiator.exchange(responder.public).hex() == case["shared"]
    assert responder.exchange(initiator.public).hex() == case["shared"]


@pytest.mark.parametrize("case", cases_of("ml_kem_768.json"))
def test_ml_kem_768(case: dict[str, Any]) -> None:
    pending = begin_key_exchange(suites.ML_KEM_768, OneValue(case["seed"]))
    assert pending.public.hex() == case["encapsulation_key"]
    assert pending.finish(bytes.fromhex(case["ciphertext"])).hex() == case["shared"]
