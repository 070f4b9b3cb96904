"""Objects as text and back; any other text is a ValueError and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

import pytest

from securesock.policy import identifiers as ids
from securesock.policy.access import AccessEntry, Right, SecurityDescriptor
from securesock.policy.builtin import BUILT_IN_OBJECTS
from securesock.policy.catalog import kind_of
from securesock.policy.codec import decode, decode_security, encode, encode_security
from securesock.policy.conditions import Condition, match
from securesock.policy.fields import Field
from securesock.policy.ipsec import (
    AuthenticationMethod,
    CertificateAuthentication,
    CertificateRoot,
    ClassifyOption,
    ClassifyOptions,
    DospOptions,
    EapAuthentication,
    IkePolicy,
    KeyingPolicy,
    NtlmAuthentication,
    PresharedKeyAuthentication,
    TunnelEndpoints,
    TunnelPolicy,
)
from securesock.policy.ipsec_numbers import AuthMethodType, CertConfigType, ClassifyOptionType, ContextType
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Filter, PolicyObject, Provider, ProviderContext, Sublayer
from securesock.policy.values import DataType, MatchType, V6Mask, Value
from securesock.policy.weights import exact_weight, ranged_weight
from securesock.secret import Secret

MODERN = next(each for each in BUILT_IN_OBJECTS if each.key == ids.PROVIDER_CONTEXT_MODERN_MAIN_MODE)
QUICK = next(each for each in BUILT_IN_OBJECTS if each.key == ids.PROVIDER_CONTEXT_SECURE_SOCKET_IPSEC)
METHODS = (
    AuthenticationMethod(AuthMethodType.PRESHARED_KEY, PresharedKeyAuthentication(Secret(b"secret"), 1)),
    AuthenticationMethod(
        AuthMethodType.CERTIFICATE,
        CertificateAuthentication(CertConfigType.EXPLICIT_TRUST_LIST, inbound_roots=(CertificateRoot(b"\0\xff", 8),)),
    ),
    AuthenticationMethod(AuthMethodType.EAP, EapAuthentication(2)),
    AuthenticationMethod(AuthMethodType.NTLM_V2, NtlmAuthentication(1)),
    AuthenticationMethod(AuthMethodType.ANONYMOUS),
)


def context(kind: ContextType, content: object) -> ProviderContext:
    return ProviderContext("c", type=kind, content=content, key=UUID(int=3), provider=UUID(int=4), id=5)


EVERY_VALUE = (
    match(Field.IP_REMOTE_PORT, 443),
    match(Field.IP_LOCAL_PORT, (1, 9), MatchType.RANGE),
    match(Field.IP_REMOTE_ADDRESS, "192.0.2.0/24"),
    match(Field.IP_LOCAL_ADDRESS, "2001:db8::/32"),
    match(Field.IP_LOCAL_ADDRESS, "::1"),
    match(Field.ALE_APP_ID, b"\0\1"),
    match(Field.PEER_NAME, "straße\U0001f512"),
    match(Field.ALE_REMOTE_USER_ID, SecurityDescriptor((AccessEntry(False, "eve@X"), AccessEntry(True, "*")), "uid:0")),
    match(Field.FLAGS, 3, MatchType.FLAGS_NONE_SET),
)
OBJECTS: list[PolicyObject] = [
    *BUILT_IN_OBJECTS,
    Provider("p", description="d", service_name="s", provider_data=b"\0\xff", key=UUID(int=1), id=1 << 40),
    Sublayer("s", weight=65535, provider=UUID(int=9)),
    Filter("f", layer=Layer.KM_AUTHORIZATION, conditions=EVERY_VALUE, weight=exact_weight((1 << 64) - 1)),
    Filter("f", layer=Layer.IPSEC_V4, weight=ranged_weight(3), provider_context=UUID(int=2), raw_context=(1 << 64) - 1),
    Filter("f", layer=Layer.IPSEC_V4, action=ActionType.CALLOUT_UNKNOWN, action_key=UUID(int=2), effective_weight=9),
    context(ContextType.KEYING, KeyingPolicy((ids.KEYING_MODULE_IKE, ids.KEYING_MODULE_IKEV2), 1)),
    context(ContextType.GENERAL, b"\0\1\2"),
    context(ContextType.GENERAL, b""),
    context(ContextType.IKEV2_MM, replace(MODERN.content, methods=METHODS)),
    context(
        ContextType.IKE_QM_TUNNEL,
        TunnelPolicy(QUICK.content.proposals, TunnelEndpoints("::1", "::2", 3, "gw", ("::4",)), em_policy=None),
    ),
    context(
        ContextType.CLASSIFY_OPTIONS,
        ClassifyOptions(
            (
                ClassifyOption(ClassifyOptionType.UNICAST_LIFETIME, 60),
                ClassifyOption(ClassifyOptionType.SECURE_SOCKET_AUTHIP_MM_POLICY_KEY, UUID(int=6)),
            )
        ),
    ),
    context(ContextType.DOSP, DospOptions(1, 2, 3, 4, public_interfaces=(1, 2), public_network=V6Mask(bytes(16), 64))),
]


@pytest.mark.parametrize("item", OBJECTS)
def test_what_was_written_is_read_again(item: PolicyObject) -> None:
    text = encode(item)
    assert decode(kind_of(item).label, text) == item
    assert encode(decode(kind_of(item).label, text)) == text


def test_a_pre_shared_key_survives() -> None:
    item = decode("provider context", encode(context(ContextType.IKE_MM, IkePolicy(METHODS[:1], ()))))
    assert item.content.methods[0].parameters.key.matches(b"secret")


def damaged(text: str) -> list[str]:
    """Every way to put something of another type, or nothing, into the place of one part of the text."""
    found: list[str] = [text[:cut] for cut in range(0, len(text), max(1, len(text) // 60))]
    for instead in (None, True, -1, 1 << 70, "x", [], {}, {"$": "IkePolicy", "=": []}, {"$": "Nothing"}, [[]]):
        for path in paths(json.loads(text)):
            data = json.loads(text)
            spot = data
            for step in path[:-1]:
                spot = spot[step]
            spot[path[-1]] = instead
            found.append(json.dumps(data))
    return found


def paths(data: object, before: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    steps = list(enumerate(data)) if isinstance(data, list) else list(data.items()) if isinstance(data, dict) else []
    return [each for step, below in steps for each in ((*before, step), *paths(below, (*before, step)))]


@pytest.mark.parametrize("item", OBJECTS[-12:])
def test_other_text_is_a_value_error_or_an_object_of_the_kind(item: PolicyObject) -> None:
    kind = kind_of(item).label
    for text in damaged(encode(item)):
        try:
            found = decode(kind, text)
        except ValueError:
            continue
        assert type(found) is type(item)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "7", "[" * 100_000, '"x"'])
@pytest.mark.parametrize("kind", ["provider", "filter", "provider context", "sublayer", "callout"])
def test_text_that_is_no_object(kind: str, text: str) -> None:
    with pytest.raises(ValueError):
        decode(kind, text)


def test_security_descriptors() -> None:
    given = SecurityDescriptor((AccessEntry(True, "uid:0", Right.GENERIC_ALL), AccessEntry(False, "*")), "uid:7")
    assert decode_security(encode_security(given)) == given
    for text in damaged(encode_security(given)):
        try:
            found = decode_security(text)
        except ValueError:
            continue
        assert isinstance(found, SecurityDescriptor)


@pytest.mark.parametrize("kind", [DataType.SID, DataType.TOKEN_INFORMATION, DataType.FLOAT])
def test_values_that_no_stored_filter_has_are_not_read(kind: DataType) -> None:
    plain = Filter("f", layer=Layer.IPSEC_V4, conditions=(match(Field.IP_REMOTE_PORT, 443),))
    data = json.loads(encode(plain))
    data[4][0][2] = [int(kind), "x"]
    with pytest.raises(ValueError, match=r"no filter|number"):
        decode("filter", json.dumps(data))


def test_what_cannot_be_stored_is_a_type_error() -> None:
    wrong = Condition(Field.IP_REMOTE_PORT, MatchType.EQUAL, Value(DataType.UINT16, object()))
    with pytest.raises(TypeError):
        encode(Filter("f", layer=Layer.IPSEC_V4, conditions=(wrong,)))
