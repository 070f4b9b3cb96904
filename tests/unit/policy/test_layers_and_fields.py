"""The tables of layers and fields, and how a flow's values become slots."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

import pytest

from securesock.policy.access import Token
from securesock.policy.errors import PolicyCode, PolicyError
from securesock.policy.fields import Field, Kind
from securesock.policy.layers import Layer, layer_by_key, layer_named
from securesock.policy.values import ConditionFlag, DataType, V4Mask, V6Mask, Value, address, integer_bounds, subnet


def refusal(call: object, *args: object) -> PolicyCode:
    with pytest.raises(PolicyError) as refused:
        call(*args)
    return refused.value.code


# fwpmu.h
@pytest.mark.parametrize(
    ("layer", "key"),
    [
        (Layer.INBOUND_TRANSPORT_V4, "5926dfc8-e3cf-4426-a283-dc393f5d0f9d"),
        (Layer.OUTBOUND_TRANSPORT_V6, "e1735bde-013f-4655-b351-a49e15762df0"),
        (Layer.ALE_AUTH_CONNECT_V4, "c38d57d1-05a7-4c33-904f-7fbceee60e82"),
        (Layer.ALE_AUTH_RECV_ACCEPT_V6, "a3b42c97-9f04-4672-b87e-cee9c483257f"),
        (Layer.IPSEC_V4, "eda65c74-610d-4bc5-948f-3c4f89556867"),
        (Layer.IKEEXT_V6, "b64786b3-f687-4eb9-89d2-8ef32acdabe2"),
        (Layer.IPSEC_KM_DEMUX_V4, "f02b1526-a459-4a51-b9e3-759de52b9d2c"),
        (Layer.KM_AUTHORIZATION, "4aa226e9-9020-45fb-956a-c0249d841195"),
    ],
)
def test_layers_have_windows_guids(layer: Layer, key: str) -> None:
    assert layer.key == UUID(key)
    assert layer_by_key(UUID(key)) is layer
    assert layer_named(layer) is layer
    assert layer_named(UUID(key)) is layer
    assert layer_named(layer.name) is layer
    assert layer_named(f"FWPM_LAYER_{layer.name}") is layer


def test_keys_of_layers_and_of_fields_are_unique() -> None:
    assert len({layer.key for layer in Layer}) == len(Layer) == 35
    assert len({field.key for field in Field}) == len(Field)


@pytest.mark.parametrize("what", [UUID(int=5), "IPSEC", "", 7])
def test_an_unknown_layer_is_not_found(what: object) -> None:
    assert refusal(layer_named, what) is PolicyCode.LAYER_NOT_FOUND


def test_every_layer_has_a_version_a_mode_and_fields() -> None:
    for layer in Layer:
        info = layer.info
        assert (info.name, info.key) == (layer.name, layer.key)
        assert info.fields
        assert len(set(info.fields)) == len(info.fields)
        assert info.ip_version == {"V4": 4, "V6": 6}.get(layer.name[-2:], 0)
        assert info.is_kernel is not layer.name.startswith(("IPSEC", "IKEEXT", "KM_"))


@pytest.mark.parametrize(
    ("layer", "fields"),
    [
        (Layer.IPSEC_KM_DEMUX_V4, "IP_LOCAL_ADDRESS IP_REMOTE_ADDRESS"),
        (Layer.IKEEXT_V4, "IP_LOCAL_ADDRESS IP_REMOTE_ADDRESS IP_LOCAL_INTERFACE CURRENT_PROFILE_ID"),
        (
            Layer.IPSEC_V6,
            "IP_LOCAL_ADDRESS IP_REMOTE_ADDRESS IP_LOCAL_PORT IP_REMOTE_PORT IP_PROTOCOL IP_LOCAL_INTERFACE "
            "CURRENT_PROFILE_ID",
        ),
        (
            Layer.ALE_AUTH_LISTEN_V4,
            "ALE_APP_ID ALE_USER_ID FLAGS INTERFACE_TYPE IP_LOCAL_ADDRESS IP_LOCAL_ADDRESS_TYPE IP_LOCAL_INTERFACE "
            "IP_LOCAL_PORT TUNNEL_TYPE LOCAL_INTERFACE_PROFILE_ID",
        ),
        (
            Layer.INBOUND_TRANSPORT_V4,
            "FLAGS INTERFACE_INDEX INTERFACE_TYPE IP_LOCAL_ADDRESS IP_LOCAL_ADDRESS_TYPE IP_LOCAL_INTERFACE "
            "IP_LOCAL_PORT IP_PROTOCOL IP_REMOTE_ADDRESS IP_REMOTE_PORT SUB_INTERFACE_INDEX TUNNEL_TYPE "
            "CURRENT_PROFILE_ID",
        ),
        (
            Layer.KM_AUTHORIZATION,
            "REMOTE_ID AUTHENTICATION_TYPE KM_TYPE KM_MODE DIRECTION IPSEC_POLICY_KEY KM_AUTH_NAP_CONTEXT",
        ),
    ],
)
def test_fields_of_a_layer(layer: Layer, fields: str) -> None:
    """From "Filtering conditions available at each filtering layer"."""
    assert {field.name for field in layer.info.fields} == set(fields.split())


def test_identity_of_the_peer_is_judged_at_connect_accept_and_established_only() -> None:
    with_peer = {layer.name[:-3] for layer in Layer if Field.ALE_REMOTE_USER_ID in layer.info.fields}
    assert with_peer == {"ALE_AUTH_CONNECT", "ALE_AUTH_RECV_ACCEPT", "ALE_FLOW_ESTABLISHED"}
    assert [layer.name for layer in Layer if Field.PEER_NAME in layer.info.fields] == [
        "ALE_AUTH_CONNECT_V4",
        "ALE_AUTH_CONNECT_V6",
    ]


def test_an_address_is_of_the_layers_version() -> None:
    assert Field.IP_LOCAL_ADDRESS.kind(4) is Kind.ADDRESS4
    assert Field.IP_LOCAL_ADDRESS.kind(6) is Kind.ADDRESS6
    assert Field.IP_LOCAL_PORT.kind(6) is Kind.NUMBER16
    assert Field.FLAGS.kind(0) is Kind.NUMBER32


V4 = Layer.ALE_AUTH_CONNECT_V4
V6 = Layer.ALE_AUTH_CONNECT_V6


@pytest.mark.parametrize(
    ("layer", "field", "value", "slot"),
    [
        (V4, Field.IP_REMOTE_ADDRESS, 0xC0000201, 0xC0000201),
        (V4, Field.IP_REMOTE_ADDRESS, "192.0.2.1", 0xC0000201),
        (V4, Field.IP_REMOTE_ADDRESS, IPv4Address("192.0.2.1"), 0xC0000201),
        (V4, Field.IP_REMOTE_ADDRESS, b"\xc0\0\2\1", 0xC0000201),
        (V6, Field.IP_REMOTE_ADDRESS, "2001:db8::1", (0x20010DB8 << 96) + 1),
        (V6, Field.IP_REMOTE_ADDRESS, IPv6Address("::1").packed, 1),
        (V4, Field.IP_REMOTE_PORT, 443, 443),
        (V4, Field.FLAGS, ConditionFlag.IS_LOOPBACK, 1),
        (V4, Field.PEER_NAME, "host/db.example", "host/db.example"),
        (V4, Field.ALE_APP_ID, b"/usr/bin/python3", b"/usr/bin/python3"),
        (V4, Field.ALE_REMOTE_USER_ID, "alice@X", Token(("alice@X",))),
        (V4, Field.ALE_REMOTE_USER_ID, Token((), ("ops",)), Token((), ("ops",))),
        (V4, Field.ALE_REMOTE_USER_ID, None, None),
        (Layer.KM_AUTHORIZATION, Field.IPSEC_POLICY_KEY, UUID(int=1), 1),
        (Layer.KM_AUTHORIZATION, Field.IPSEC_POLICY_KEY, bytes(15) + b"\2", 2),
    ],
)
def test_values_of_a_flow(layer: Layer, field: Field, value: object, slot: object) -> None:
    slots = layer.info.slots_of({field: value})
    assert slots[layer.info.fields.index(field)] == slot
    assert slots.count(None) >= len(slots) - 1


def test_a_field_is_named_by_member_guid_or_name() -> None:
    by_member = V4.info.slots_of({Field.IP_REMOTE_PORT: 443})
    assert V4.info.slots_of({Field.IP_REMOTE_PORT.key: 443}) == by_member
    assert V4.info.slots_of({"IP_REMOTE_PORT": 443}) == by_member
    assert V4.info.slots_of({"FWPM_CONDITION_IP_REMOTE_PORT": 443}) == by_member
    assert V4.info.slots_of({"ICMP_CODE": 443}) == by_member


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        (Field.IP_REMOTE_PORT, 65536, PolicyCode.OUT_OF_BOUNDS),
        (Field.IP_REMOTE_PORT, -1, PolicyCode.OUT_OF_BOUNDS),
        (Field.IP_REMOTE_PORT, "443", PolicyCode.TYPE_MISMATCH),
        (Field.IP_REMOTE_ADDRESS, "2001:db8::1", PolicyCode.TYPE_MISMATCH),
        (Field.IP_REMOTE_ADDRESS, "nobody", PolicyCode.TYPE_MISMATCH),
        (Field.IP_REMOTE_ADDRESS, bytes(16), PolicyCode.TYPE_MISMATCH),
        (Field.IP_REMOTE_ADDRESS, 1.5, PolicyCode.TYPE_MISMATCH),
        (Field.PEER_NAME, b"x", PolicyCode.TYPE_MISMATCH),
        (Field.PEER_NAME, 7, PolicyCode.OUT_OF_BOUNDS),
        (Field.ALE_APP_ID, "x", PolicyCode.TYPE_MISMATCH),
        (Field.ALE_REMOTE_USER_ID, b"x", PolicyCode.TYPE_MISMATCH),
        (Field.REMOTE_ID, "x", PolicyCode.CONDITION_NOT_FOUND),
        ("IP_REMOTE_PROT", 443, PolicyCode.CONDITION_NOT_FOUND),
        (UUID(int=3), 443, PolicyCode.CONDITION_NOT_FOUND),
    ],
)
def test_impossible_values_of_a_flow_are_refused(field: object, value: object, code: PolicyCode) -> None:
    assert refusal(V4.info.slots_of, {field: value}) is code


def test_a_key_of_a_policy_is_the_windows_form_of_its_guid() -> None:
    key = UUID("b25ea800-0d02-46ed-92bd-7fa84bb73e9d")
    info = Layer.KM_AUTHORIZATION.info
    assert info.slots_of({Field.IPSEC_POLICY_KEY: key}) == info.slots_of({Field.IPSEC_POLICY_KEY: key.bytes_le})


def test_typed_values_from_text() -> None:
    assert address("192.0.2.1") == Value(DataType.UINT32, 0xC0000201)
    assert address("::1") == Value(DataType.BYTE_ARRAY16, bytes(15) + b"\1")
    assert subnet("192.0.2.77/24") == Value(DataType.V4_ADDR_MASK, V4Mask(0xC0000200, 0xFFFFFF00))
    assert subnet("2001:db8::/32") == Value(DataType.V6_ADDR_MASK, V6Mask(b"\x20\1\x0d\xb8" + bytes(12), 32))
    assert refusal(address, "192.0.2") is PolicyCode.INVALID_PARAMETER
    assert refusal(subnet, "192.0.2.0/33") is PolicyCode.INVALID_NET_MASK


def test_bounds_of_integer_types() -> None:
    assert integer_bounds(DataType.UINT8) == (0, 255)
    assert integer_bounds(DataType.INT16) == (-32768, 32767)
    assert integer_bounds(DataType.UINT64) == (0, (1 << 64) - 1)
    assert integer_bounds(DataType.BYTE_ARRAY16) is None
