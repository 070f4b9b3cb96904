"""MSCHAPv2 by RFC 2759's own example, and the keys that RFC 3079 derives from it."""

from __future__ import annotations

import json
from pathlib import Path

from securesock.crypto.mschap import (
    authenticator_response,
    challenge_hash,
    master_session_key,
    nt_hash,
    nt_response,
)

VECTOR = json.loads((Path(__file__).parent / "data" / "mschapv2_rfc2759.json").read_text())


def bytes_of(name: str) -> bytes:
    return bytes.fromhex(VECTOR[name])


def test_the_example_of_rfc_2759_and_its_keys() -> None:
    password_hash = nt_hash(VECTOR["password"].encode())
    assert password_hash == bytes_of("password_hash")
    challenge = challenge_hash(bytes_of("peer_challenge"), bytes_of("authenticator_challenge"), VECTOR["user"].encode())
    assert challenge == bytes_of("challenge")
    response = nt_response(challenge, password_hash)
    assert response == bytes_of("nt_response")
    assert authenticator_response(password_hash, response, challenge) == bytes_of("authenticator_response")
    assert master_session_key(password_hash, response) == bytes_of("msk")
