"""What a filter may look at: condition fields, their GUIDs and their types (FWPM_CONDITION_* of fwpmu.h).

A field's kind says which typed values a condition may hold for it, and how the value of a flow is written in Python.
Addresses differ by the IP version of the layer, so that a field's kind is known only together with a layer (layers.py).
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final
from uuid import UUID

from .values import DataType

__all__ = ["Field", "Kind"]


class Kind(Enum):
    """How a field's values look.

    ``data_type`` is the type of a flow's value, ``bits`` the width of the number that it is (0: it is none), and
    ``condition_types`` are the types that a condition may hold, apart from RANGE over the first.
    """

    NUMBER8 = (DataType.UINT8, 8)
    NUMBER16 = (DataType.UINT16, 16)
    NUMBER32 = (DataType.UINT32, 32)
    NUMBER64 = (DataType.UINT64, 64)
    ADDRESS4 = (DataType.UINT32, 32, DataType.UINT32, DataType.V4_ADDR_MASK)
    ADDRESS6 = (DataType.BYTE_ARRAY16, 128, DataType.BYTE_ARRAY16, DataType.V6_ADDR_MASK)
    GUID = (DataType.BYTE_ARRAY16, 128)
    BLOB = (DataType.BYTE_BLOB, 0)
    NAME = (DataType.BYTE_BLOB, 0, DataType.BYTE_BLOB, DataType.UNICODE_STRING)
    TOKEN = (DataType.TOKEN_ACCESS_INFORMATION, 0, DataType.SECURITY_DESCRIPTOR)

    def __init__(self, data_type: DataType, bits: int, *condition_types: DataType) -> None:
        self.data_type = data_type
        self.bits = bits
        self.condition_types = condition_types or (data_type,)


class Field(IntEnum):
    """FWPM_CONDITION_*.  The numbers are ours; ``key`` is the GUID."""

    IP_LOCAL_ADDRESS = 1
    IP_REMOTE_ADDRESS = 2
    IP_LOCAL_ADDRESS_TYPE = 3
    IP_DESTINATION_ADDRESS_TYPE = 4
    IP_LOCAL_INTERFACE = 5
    IP_PROTOCOL = 6
    IP_LOCAL_PORT = 7
    ICMP_TYPE = 7
    IP_REMOTE_PORT = 8
    ICMP_CODE = 8
    INTERFACE_TYPE = 9
    TUNNEL_TYPE = 10
    INTERFACE_INDEX = 11
    SUB_INTERFACE_INDEX = 12
    FLAGS = 13
    DIRECTION = 14
    ALE_APP_ID = 15
    ALE_USER_ID = 16
    ALE_REMOTE_USER_ID = 17
    ALE_REMOTE_MACHINE_ID = 18
    CURRENT_PROFILE_ID = 19
    REAUTHORIZE_REASON = 20
    PEER_NAME = 21
    REMOTE_ID = 22
    AUTHENTICATION_TYPE = 23
    KM_TYPE = 24
    KM_MODE = 25
    IPSEC_POLICY_KEY = 26
    NET_EVENT_TYPE = 27
    IP_SOURCE_ADDRESS = 28
    IP_DESTINATION_ADDRESS = 29
    IP_FORWARD_INTERFACE = 30
    SOURCE_INTERFACE_INDEX = 31
    SOURCE_SUB_INTERFACE_INDEX = 32
    DESTINATION_INTERFACE_INDEX = 33
    DESTINATION_SUB_INTERFACE_INDEX = 34
    ALE_NAP_CONTEXT = 35
    KM_AUTH_NAP_CONTEXT = 36
    IP_ARRIVAL_INTERFACE = 37
    ARRIVAL_INTERFACE_INDEX = 38
    ARRIVAL_INTERFACE_TYPE = 39
    ARRIVAL_TUNNEL_TYPE = 40
    ORIGINAL_PROFILE_ID = 41
    ORIGINAL_ICMP_TYPE = 42
    ALE_PROMISCUOUS_MODE = 43
    LOCAL_INTERFACE_PROFILE_ID = 44

    @property
    def key(self) -> UUID:
        """The field's GUID."""
        return _KEYS[self]

    def kind(self, ip_version: int) -> Kind:
        """The field's kind at a layer of this IP version (4, 6; 0 for a layer of neither)."""
        if self in _ADDRESSES:
            return Kind.ADDRESS6 if ip_version == 6 else Kind.ADDRESS4
        return _KINDS.get(self, Kind.NUMBER32)


_ADDRESSES: Final = frozenset(
    (Field.IP_LOCAL_ADDRESS, Field.IP_REMOTE_ADDRESS, Field.IP_SOURCE_ADDRESS, Field.IP_DESTINATION_ADDRESS)
)

# Types: "Filtering condition identifiers" of the platform's documentation; what is not named here is a UINT32.
_KINDS: Final = {
    Field.IP_LOCAL_ADDRESS_TYPE: Kind.NUMBER8,
    Field.IP_DESTINATION_ADDRESS_TYPE: Kind.NUMBER8,
    Field.IP_LOCAL_INTERFACE: Kind.NUMBER64,
    Field.IP_FORWARD_INTERFACE: Kind.NUMBER64,
    Field.IP_ARRIVAL_INTERFACE: Kind.NUMBER64,
    Field.IP_PROTOCOL: Kind.NUMBER8,
    Field.IP_LOCAL_PORT: Kind.NUMBER16,
    Field.IP_REMOTE_PORT: Kind.NUMBER16,
    Field.ORIGINAL_ICMP_TYPE: Kind.NUMBER16,
    Field.ALE_APP_ID: Kind.BLOB,
    Field.ALE_USER_ID: Kind.TOKEN,
    Field.ALE_REMOTE_USER_ID: Kind.TOKEN,
    Field.ALE_REMOTE_MACHINE_ID: Kind.TOKEN,
    Field.REMOTE_ID: Kind.TOKEN,
    Field.PEER_NAME: Kind.NAME,
    Field.IPSEC_POLICY_KEY: Kind.GUID,
}

_KEYS: Final = {
    Field.IP_LOCAL_ADDRESS: UUID("d9ee00de-c1ef-4617-bfe3-ffd8f5a08957"),
    Field.IP_REMOTE_ADDRESS: UUID("b235ae9a-1d64-49b8-a44c-5ff3d9095045"),
    Field.IP_LOCAL_ADDRESS_TYPE: UUID("6ec7f6c4-376b-45d7-9e9c-d337cedcd237"),
    Field.IP_DESTINATION_ADDRESS_TYPE: UUID("1ec1b7c9-4eea-4f5e-b9ef-76beaaaf17ee"),
    Field.IP_LOCAL_INTERFACE: UUID("4cd62a49-59c3-4969-b7f3-bda5d32890a4"),
    Field.IP_PROTOCOL: UUID("3971ef2b-623e-4f9a-8cb1-6e79b806b9a7"),
    Field.IP_LOCAL_PORT: UUID("0c1ba1af-5765-453f-af22-a8f791ac775b"),
    Field.IP_REMOTE_PORT: UUID("c35a604d-d22b-4e1a-91b4-68f674ee674b"),
    Field.INTERFACE_TYPE: UUID("daf8cd14-e09e-4c93-a5ae-c5c13b73ffca"),
    Field.TUNNEL_TYPE: UUID("77a40437-8779-4868-a261-f5a902f1c0cd"),
    Field.INTERFACE_INDEX: UUID("667fd755-d695-434a-8af5-d3835a1259bc"),
    Field.SUB_INTERFACE_INDEX: UUID("0cd42473-d621-4be3-ae8c-72a348d283e1"),
    Field.FLAGS: UUID("632ce23b-5167-435c-86d7-e903684aa80c"),
    Field.DIRECTION: UUID("8784c146-ca97-44d6-9fd1-19fb1840cbf7"),
    Field.ALE_APP_ID: UUID("d78e1e87-8644-4ea5-9437-d809ecefc971"),
    Field.ALE_USER_ID: UUID("af043a0a-b34d-4f86-979c-c90371af6e66"),
    Field.ALE_REMOTE_USER_ID: UUID("f63073b7-0189-4ab0-95a4-6123cbfab862"),
    Field.ALE_REMOTE_MACHINE_ID: UUID("1aa47f51-7f93-4508-a271-81abb00c9cab"),
    Field.CURRENT_PROFILE_ID: UUID("ab3033c9-c0e3-4759-937d-5758c65d4ae3"),
    Field.REAUTHORIZE_REASON: UUID("11205e8c-11ae-457a-8a44-477026dd764a"),
    Field.PEER_NAME: UUID("9b539082-eb90-4186-a6cc-de5b63235016"),
    Field.REMOTE_ID: UUID("f68166fd-0682-4c89-b8f5-86436c7ef9b7"),
    Field.AUTHENTICATION_TYPE: UUID("eb458cd5-da7b-4ef9-8d43-7b0a840332f2"),
    Field.KM_TYPE: UUID("ff0f5f49-0ceb-481b-8638-1479791f3f2c"),
    Field.KM_MODE: UUID("feef4582-ef8f-4f7b-858b-9077d122de47"),
    Field.IPSEC_POLICY_KEY: UUID("ad37dee3-722f-45cc-a4e3-068048124452"),
    Field.NET_EVENT_TYPE: UUID("206e9996-490e-40cf-b831-b38641eb6fcb"),
    Field.IP_SOURCE_ADDRESS: UUID("ae96897e-2e94-4bc9-b313-b27ee80e574d"),
    Field.IP_DESTINATION_ADDRESS: UUID("2d79133b-b390-45c6-8699-acaceaafed33"),
    Field.IP_FORWARD_INTERFACE: UUID("1076b8a5-6323-4c5e-9810-e8d3fc9e6136"),
    Field.SOURCE_INTERFACE_INDEX: UUID("2311334d-c92d-45bf-9496-edf447820e2d"),
    Field.SOURCE_SUB_INTERFACE_INDEX: UUID("055edd9d-acd2-4361-8dab-f9525d97662f"),
    Field.DESTINATION_INTERFACE_INDEX: UUID("35cf6522-4139-45ee-a0d5-67b80949d879"),
    Field.DESTINATION_SUB_INTERFACE_INDEX: UUID("2b7d4399-d4c7-4738-a2f5-e994b43da388"),
    Field.ALE_NAP_CONTEXT: UUID("46275a9d-c03f-4d77-b784-1c57f4d02753"),
    Field.KM_AUTH_NAP_CONTEXT: UUID("35d0ea0e-15ca-492b-900e-97fd46352cce"),
    Field.IP_ARRIVAL_INTERFACE: UUID("618a9b6d-386b-4136-ad6e-b51587cfb1cd"),
    Field.ARRIVAL_INTERFACE_INDEX: UUID("cc088db3-1792-4a71-b0f9-037d21cd828b"),
    Field.ARRIVAL_INTERFACE_TYPE: UUID("89f990de-e798-4e6d-ab76-7c9558292e6f"),
    Field.ARRIVAL_TUNNEL_TYPE: UUID("511166dc-7a8c-4aa7-b533-95ab59fb0340"),
    Field.ORIGINAL_PROFILE_ID: UUID("46ea1551-2255-492b-8019-aabeee349f40"),
    Field.ORIGINAL_ICMP_TYPE: UUID("076dfdbe-c56c-4f72-ae8a-2cfe7e5c8286"),
    Field.ALE_PROMISCUOUS_MODE: UUID("1c974776-7182-46e9-afd3-b02910e30334"),
    Field.LOCAL_INTERFACE_PROFILE_ID: UUID("4ebf7562-9f18-4d06-9941-a7a625744d71"),
}
