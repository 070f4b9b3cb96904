"""Security descriptors and tokens: who is meant by an entry, and in which order entries count."""

from __future__ import annotations

import pytest

from securesock.policy.access import EVERYONE, AccessEntry, Right, SecurityDescriptor, Token, allow
from securesock.policy.errors import PolicyCode, PolicyError


@pytest.mark.parametrize(
    ("trustee", "names", "groups", "is_meant"),
    [
        ("host/db.example", ["host/db.example"], [], True),
        ("host/db.example", ["host/DB.example"], [], False),
        ("host/db.example", ["db.example"], [], False),
        ("alice@EXAMPLE.ORG", ["alice@EXAMPLE.ORG"], [], True),
        ("host/*.example", ["host/db.example"], [], True),
        ("host/*.example", ["host/a.db.example"], [], False),
        ("host/*.example", ["host/example"], [], False),
        ("host/*.*.example", ["host/a.db.example"], [], True),
        ("host/db.*", ["host/db.example"], [], True),
        ("host/*", ["host/localhost"], [], True),
        ("*@EXAMPLE.ORG", ["alice@EXAMPLE.ORG"], [], False),
        ("*@EXAMPLE.ORG", ["*@EXAMPLE.ORG"], [], True),
        ("host/*.example", ["spiffe://db.example"], [], False),
        ("host-like/web*.example", ["host/web-1.example"], [], True),
        ("host-like/web*.example", ["host/web.example"], [], True),
        ("host-like/web*.example", ["host/db.example"], [], False),
        ("host-like/web*.example", ["host/web.a.example"], [], False),
        ("host-like/a*b*c.*.example", ["host/aXbYc.z.example"], [], True),
        ("host-like/a*b*c.*.example", ["host/aXcYb.z.example"], [], False),
        ("host-like/aa*aa.example", ["host/aaa.example"], [], False),
        ("host-like/web*.example", ["spiffe://web-1.example"], [], False),
        ("group:ops", ["host/a"], ["ops"], True),
        ("group:ops", ["group:ops"], [], False),
        ("group:ops", [], ["ops"], True),
        (EVERYONE, ["host/a"], [], True),
        (EVERYONE, [], ["ops"], False),
        ("host/a", ["host/b", "host/a"], [], True),
    ],
)
def test_trustees(trustee: str, names: list[str], groups: list[str], is_meant: bool) -> None:
    descriptor = allow(trustee)
    token = Token(tuple(names), tuple(groups))
    assert descriptor.admits(token) is is_meant
    # The promise that the index rests on.
    if is_meant:
        assert set(descriptor.keys()) & set(token.keys)


def test_the_first_entry_for_somebody_decides() -> None:
    bob = Token(("host/bob.example",))
    deny_first = SecurityDescriptor((AccessEntry(False, "host/bob.example"), AccessEntry(True, EVERYONE)))
    allow_first = SecurityDescriptor((AccessEntry(True, EVERYONE), AccessEntry(False, "host/bob.example")))
    assert not deny_first.admits(bob)
    assert deny_first.admits(Token(("host/eve.example",)))
    assert allow_first.admits(bob)


def test_nobody_is_granted_what_no_entry_grants() -> None:
    assert not SecurityDescriptor().admits(Token(("host/a",)))
    assert SecurityDescriptor().keys() == ()


def test_rights_are_granted_one_by_one() -> None:
    descriptor = SecurityDescriptor(
        (
            AccessEntry(False, "uid:7", Right.DELETE),
            AccessEntry(True, EVERYONE, Right.READ | Right.DELETE),
            AccessEntry(True, "group:ops", Right.GENERIC_ALL),
        )
    )
    assert descriptor.granted(Token(("uid:7",))) == Right.READ
    assert descriptor.granted(Token(("uid:8",))) == Right.READ | Right.DELETE
    assert descriptor.granted(Token(("uid:7",), ("ops",))) == Right.GENERIC_ALL & ~Right.DELETE


def test_the_owner_may_always_read_and_change_the_descriptor() -> None:
    descriptor = SecurityDescriptor(owner="uid:7")
    assert descriptor.granted(Token(("uid:7",))) == Right.READ_CONTROL | Right.WRITE_DAC
    assert not descriptor.granted(Token(("uid:8",)))


@pytest.mark.parametrize(
    "entry",
    [
        AccessEntry(True, ""),
        AccessEntry(True, "group:"),
        AccessEntry(True, "host/"),
        AccessEntry(True, "host/a..b"),
        AccessEntry(True, "host/db-*.example"),
        AccessEntry(True, "host/**.example"),
        AccessEntry(True, "host-like/"),
        AccessEntry(True, "host-like/a..*"),
        AccessEntry(True, "host-like/db.example"),
        AccessEntry(True, "host/a", Right(0)),
    ],
)
def test_an_entry_that_names_nobody_or_nothing_is_refused(entry: AccessEntry) -> None:
    with pytest.raises(PolicyError) as refused:
        SecurityDescriptor((entry,))
    assert refused.value.code is PolicyCode.ERROR_INVALID_SECURITY_DESCR
