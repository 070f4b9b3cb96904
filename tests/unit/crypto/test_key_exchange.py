"""Both ends of a key exchange have the same secret, and bad values of the peer's are refused."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from securesock.crypto import key_exchange as key_exchange_module
from securesock.crypto import suites
from securesock.crypto.key_exchange import answer_key_exchange, begin_key_exchange, is_available
from securesock.crypto.suites import KeyExchangeMethod
from securesock.entropy import SystemEntropy
from securesock.errors import WireError

METHODS = list(suites.KEY_EXCHANGES.values())
CURVES = [suites.P_256, suites.P_384, suites.P_521]


class CountingEntropy:
    """The same bytes in every run: SHAKE over a counter."""

    def __init__(self, seed: bytes = b"seed") -> None:
        self.seed = seed
        self.draws = 0

    def token(self, length: int) -> bytes:
        self.draws += 1
        return hashlib.shake_256(self.seed + self.draws.to_bytes(4, "big")).digest(length)


class ListedEntropy:
    """Hands out what it was given, in order."""

    def __init__(self, *values: bytes) -> None:
        self.values = list(values)

    def token(self, length: int) -> bytes:
        value = self.values.pop(0)
        assert len(value) == length
        return value


@pytest.mark.parametrize("method", METHODS, ids=lambda each: each.name)
def test_both_ends_have_the_same_secret(method: KeyExchangeMethod) -> None:
    pending = begin_key_exchange(method, SystemEntropy())
    assert len(pending.public) == method.initiator_length
    public, shared = answer_key_exchange(method, pending.public, SystemEntropy())
    assert len(public) == method.responder_length
    assert pending.finish(public) == shared


@pytest.mark.parametrize("method", METHODS, ids=lambda each: each.name)
def test_the_same_entropy_gives_the_same_bytes(method: KeyExchangeMethod) -> None:
    first, second = (begin_key_exchange(method, CountingEntropy()) for _ in range(2))
    other = begin_key_exchange(method, CountingEntropy(b"other"))
    assert first.public == second.public != other.public


@pytest.mark.parametrize("method", METHODS, ids=lambda each: each.name)
def test_a_value_of_another_length_is_refused(method: KeyExchangeMethod) -> None:
    pending = begin_key_exchange(method, SystemEntropy())
    for length in (0, 1, method.responder_length - 1, method.responder_length + 1):
        with pytest.raises(WireError):
            pending.finish(b"\x09" * length)
    for length in (0, 1, method.initiator_length - 1, method.initiator_length + 1):
        with pytest.raises(WireError):
            answer_key_exchange(method, b"\x09" * length, SystemEntropy())


# RFC 7748 6.1 and its Security Considerations: values of small order give an all-zero result
SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("value", SMALL_ORDER, ids=lambda value: value.hex()[:8])
def test_an_x25519_value_of_small_order_is_refused(value: bytes) -> None:
    with pytest.raises(WireError):
        answer_key_exchange(suites.X25519, value, SystemEntropy())


def test_the_top_bit_and_a_non_canonical_x25519_value_are_reduced_and_not_refused() -> None:
    """RFC 8031 3.2: mask the most significant bit, accept non-canonical values."""
    pending = begin_key_exchange(suites.X25519, CountingEntropy())
    for value in (3, 9, 18):
        canonical = pending.finish(value.to_bytes(32, "little"))
        assert pending.finish((value + 2**255 - 19).to_bytes(32, "little")) == canonical
        assert pending.finish((value + 2**255).to_bytes(32, "little")) == canonical


@pytest.mark.parametrize("method", CURVES, ids=lambda each: each.name)
def test_a_point_off_the_curve_is_refused(method: KeyExchangeMethod) -> None:
    public = begin_key_exchange(method, SystemEntropy()).public
    for bad in (public[:-1] + bytes((public[-1] ^ 1,)), bytes(len(public)), b"\xff" * len(public)):
        with pytest.raises(WireError):
            answer_key_exchange(method, bad, SystemEntropy())


def test_modp_values_outside_two_to_p_minus_two_are_refused() -> None:
    pending = begin_key_exchange(suites.MODP_2048, SystemEntropy())
    prime = _prime_2048()
    for bad in (0, 1, prime - 1, prime, prime + 1, 2**2048 - 1):
        with pytest.raises(WireError):
            pending.finish(bad.to_bytes(256, "big"))
    assert len(pending.finish((2).to_bytes(256, "big"))) == 256
    assert len(pending.finish((prime - 2).to_bytes(256, "big"))) == 256


def _prime_2048() -> int:
    """2^2048 - 2^1984 - 1 + 2^64 * ( [2^1918 pi] + 124476 ) (RFC 3526 3), with pi by Machin's formula."""
    bits = 1918 + 64

    def arctan_of_inverse(x: int) -> int:
        total = term = (1 << bits) // x
        k, sign = 3, -1
        while term:
            term //= x * x
            total += sign * (term // k)
            k, sign = k + 2, -sign
        return total

    pi = 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))
    return 2**2048 - 2**1984 - 1 + 2**64 * ((pi >> 64) + 124476)


def test_the_modp_prime_is_the_one_of_the_formula() -> None:
    """g = 2 and x = 2048 - 64: 2^x mod p is right only modulo the right prime."""
    exponent = bytes(30) + (2300).to_bytes(2, "big")
    public = begin_key_exchange(suites.MODP_2048, ListedEntropy(exponent)).public
    assert int.from_bytes(public, "big") == pow(2, 2300, _prime_2048())


def test_a_short_modp_secret_keeps_its_leading_zeros() -> None:
    # x = 8 and y = 2: the secret is 2^8, 255 of its 256 bytes are zeros in front (RFC 7296 2.14)
    pending = begin_key_exchange(suites.MODP_2048, ListedEntropy(bytes(31) + b"\x08"))
    assert pending.public == (2**8).to_bytes(256, "big")
    assert pending.finish((2).to_bytes(256, "big")) == (2**8).to_bytes(256, "big")


def test_an_ml_kem_key_with_a_coefficient_out_of_range_is_refused() -> None:
    public = begin_key_exchange(suites.ML_KEM_768, SystemEntropy()).public
    with pytest.raises(WireError):  # FIPS 203 7.2: 12-bit values of 3329 or more are no coefficients
        answer_key_exchange(suites.ML_KEM_768, b"\xff\xff\xff" + public[3:], SystemEntropy())


def test_a_changed_ml_kem_ciphertext_gives_another_secret_without_an_error() -> None:
    pending = begin_key_exchange(suites.ML_KEM_768, SystemEntropy())
    public, shared = answer_key_exchange(suites.ML_KEM_768, pending.public, SystemEntropy())
    changed = pending.finish(public[:-1] + bytes((public[-1] ^ 1,)))
    assert len(changed) == 32
    assert changed != shared


@pytest.mark.parametrize(("method", "length"), [(suites.P_256, 32), (suites.P_384, 48), (suites.P_521, 66)])
def test_a_scalar_outside_the_group_is_drawn_again(method: KeyExchangeMethod, length: int) -> None:
    good = b"\x00\x80" + bytes(length - 2)  # of P-521's 528 bits the last 7 are dropped
    pending = begin_key_exchange(method, ListedEntropy(b"\xff" * length, bytes(length), good))
    assert pending.public == begin_key_exchange(method, ListedEntropy(good)).public


@pytest.mark.parametrize("method", METHODS, ids=lambda each: each.name)
def test_nothing_secret_is_shown(method: KeyExchangeMethod) -> None:
    pending = begin_key_exchange(method, CountingEntropy())
    secret = CountingEntropy().token(64)
    assert secret[:8].hex() not in repr(pending)
    assert str(int.from_bytes(secret[:32], "big")) not in repr(pending)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What is_available remembers is made in the test, and forgotten after it."""
    is_available.cache_clear()
    yield
    is_available.cache_clear()


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("method", METHODS, ids=lambda each: each.name)
def test_everything_is_available_with_the_library_that_is_pinned(method: KeyExchangeMethod) -> None:
    assert is_available(method)


@pytest.mark.usefixtures("forgotten")
def test_ml_kem_is_not_available_where_the_library_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unsupported:
        @staticmethod
        def from_seed_bytes(seed: bytes) -> None:
            raise UnsupportedAlgorithm("ML-KEM-768 is not supported by this backend.")

    monkeypatch.setattr(key_exchange_module, "MLKEM768PrivateKey", Unsupported)
    assert not is_available(suites.ML_KEM_768)
    assert is_available(suites.X25519)


@pytest.mark.usefixtures("forgotten")
def test_modp_is_not_available_where_its_names_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "securesock.crypto.modp", None)
    assert not is_available(suites.MODP_2048)
    assert is_available(suites.P_256)
