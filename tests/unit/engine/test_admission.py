"""create_server(allow=[...]): names and globs on DNS labels."""

from __future__ import annotations

import pytest

from securesock.engine.admission import AllowList, PrincipalGroups, token_of
from securesock.errors import LocalMisuse
from securesock.types import Principal


@pytest.mark.parametrize(
    ("patterns", "name"),
    [
        (["host/a.example"], "host/a.example"),
        (["A.Example"], "host/a.example"),
        (["host/*.example"], "host/a.example"),
        (["*.example"], "host/web-1.example"),
        (["web*.example"], "host/web-1.example"),
        (["192.0.2.1"], "192.0.2.1"),
        (["2001:DB8::1"], "2001:db8::1"),
        (["spiffe://example/ns/a"], "spiffe://example/ns/a"),
        (["alice@example.org"], "alice@example.org"),
        (["other.example", "*.b.example"], "host/a.b.example"),
    ],
)
def test_a_name_on_the_list_is_admitted(patterns: list[str], name: str) -> None:
    assert AllowList(patterns).refusal(Principal(name)) is None


def test_keys_on_the_list_are_known_before_a_chain_is_judged() -> None:
    pin = "sha256:" + "0123456789abcdef" * 4
    allowed = AllowList(["host/a.example", pin, "*.example"])
    assert set(allowed.pins) == {pin}
    assert allowed.refusal(Principal(pin)) is None
    assert set(AllowList(["host/a.example"]).pins) == set()


@pytest.mark.parametrize(
    ("patterns", "name"),
    [
        ([], "host/a.example"),
        (["host/a.example"], "host/b.example"),
        (["*.example"], "host/a.b.example"),
        (["*.example"], "host/example"),
        (["*"], "host/a.example"),
        (["*.example"], "a.example@example"),
        (["*.*.*.*"], "192.0.2.1"),
        (["a.example"], "spiffe://a.example/x"),
        (["spiffe://example/a"], "spiffe://example/A"),
    ],
)
def test_any_other_is_refused_with_its_name(patterns: list[str], name: str) -> None:
    reason = AllowList(patterns).refusal(Principal(name))
    assert reason
    assert name in reason


def test_an_anonymous_peer_is_refused_whatever_the_list_says() -> None:
    assert AllowList(["*.example"]).refusal(Principal("host/a.example", method="anonymous"))


@pytest.mark.parametrize("pattern", ["", "*.exa mple", "a..*", "*.example/", "[a-z]*.example", "?.example", 7])
def test_what_is_neither_a_name_nor_a_glob_is_misuse(pattern: str) -> None:
    with pytest.raises(LocalMisuse):
        AllowList([pattern])


def test_a_single_text_is_misuse_because_its_letters_would_be_the_names() -> None:
    with pytest.raises(LocalMisuse, match="list"):
        AllowList("host/a.example")


def test_groups_are_lists_with_names() -> None:
    groups = PrincipalGroups({"ops": ["host/*.ops.example", "alice@example.org"], "all": ["*.example", "*.*.example"]})
    assert groups.of(Principal("host/a.ops.example")) == ("ops", "all")
    assert groups.of(Principal("alice@example.org", "user")) == ("ops",)
    assert token_of(Principal("host/b.example"), groups).groups == ("all",)
    assert token_of(Principal("host/b.example", method="anonymous"), groups).names == ()
    assert AllowList(["group:ops"]).descriptor.admits(token_of(Principal("host/a.ops.example"), groups))
    assert groups == PrincipalGroups(groups)
    assert hash(groups) == hash(PrincipalGroups(groups))


@pytest.mark.parametrize(
    "groups", [{"": ["a.example"]}, {5: ["a.example"]}, {"a": ["group:b"]}, {"a": "host/b.example"}]
)
def test_a_group_that_is_none_is_misuse(groups: dict[str, list[str]]) -> None:
    with pytest.raises(LocalMisuse):
        PrincipalGroups(groups)
