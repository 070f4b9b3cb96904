"""A secret is read by reveal() and by nothing else."""

from __future__ import annotations

import copy
import pickle
import weakref

import pytest

from securesock.secret import Secret

VALUE = b"correct horse"


@pytest.mark.parametrize("given", [VALUE, bytearray(VALUE), VALUE.decode(), Secret(VALUE)])
def test_reveal_gives_the_bytes_that_were_put_in(given: bytes | bytearray | str | Secret) -> None:
    assert Secret(given).reveal() == VALUE


@pytest.mark.parametrize("given", [32, None, True, [0] * 32, memoryview(VALUE)])
def test_what_is_neither_bytes_nor_text_is_no_secret(given: object) -> None:
    with pytest.raises(TypeError, match="bytes or text"):
        Secret(given)


def test_text_is_kept_as_utf8() -> None:
    assert Secret("schlüssel").reveal() == "schlüssel".encode()


def test_a_secret_is_shown_by_nothing() -> None:
    secret = Secret(VALUE)
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r}", repr([secret]), repr({1: secret})):
        assert "horse" not in shown
        assert "***" in shown
    assert not hasattr(secret, "__dict__")


def test_a_secret_is_not_pickled_or_copied() -> None:
    secret = Secret(VALUE)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret, protocol)
    with pytest.raises(TypeError):
        copy.copy(secret)
    with pytest.raises(TypeError):
        copy.deepcopy([secret])


def test_secrets_are_compared_in_constant_time_or_not_at_all() -> None:
    assert Secret(VALUE).matches(VALUE)
    assert Secret(VALUE).matches(Secret(VALUE))
    assert not Secret(VALUE).matches(b"correct horsf")
    assert not Secret(VALUE).matches(VALUE[:-1])
    with pytest.raises(TypeError, match="matches"):
        _ = Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != VALUE


def test_a_secret_is_no_key_of_a_dict() -> None:
    with pytest.raises(TypeError):
        hash(Secret(VALUE))


def test_wipe_overwrites_our_copy_and_leaves_nothing() -> None:
    secret = Secret(VALUE)
    held = secret._bytes
    view = bytes(held)
    assert view == VALUE
    secret.wipe()
    assert (len(secret), bool(secret), secret.reveal()) == (0, False, b"")
    secret.wipe()
    assert not held


def test_a_secret_made_of_a_bytearray_does_not_share_it() -> None:
    given = bytearray(VALUE)
    secret = Secret(given)
    given[:] = bytes(len(given))
    assert secret.reveal() == VALUE


def test_truth_and_length_are_those_of_the_bytes() -> None:
    assert (len(Secret(VALUE)), bool(Secret(VALUE)), bool(Secret())) == (len(VALUE), True, False)


def test_a_secret_can_be_weakly_referenced() -> None:
    secret = Secret(VALUE)
    assert weakref.ref(secret)() is secret
