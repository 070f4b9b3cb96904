"""The numbers of IPsec policies: the enums and flags of iketypes.h, ipsectypes.h, fwpmtypes.h and fwptypes.h.

Numbers of 0x10000 and more are ours, for algorithms that Windows' enums do not know: they are for IKEv2 contexts only,
and the Winsock facade never packs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, IntFlag
from types import MappingProxyType
from typing import Final

from ..types import PrincipalMethod

__all__ = [
    "METHOD_TYPES",
    "AuthMethodType",
    "AuthType",
    "CertAuthFlag",
    "CertConfigType",
    "CertRootFlag",
    "CipherType",
    "ClassifyOptionType",
    "ContextType",
    "DhGroup",
    "DospFlag",
    "IkeCipher",
    "IkeIntegrity",
    "IkePolicyFlag",
    "ImpersonationType",
    "KerberosFlag",
    "KeyModuleType",
    "PfsGroup",
    "PolicyFlag",
    "TransformType",
]


class ContextType(IntEnum):
    """FWPM_PROVIDER_CONTEXT_TYPE."""

    KEYING = 0
    IKE_QM_TRANSPORT = 1
    IKE_QM_TUNNEL = 2
    AUTHIP_QM_TRANSPORT = 3
    AUTHIP_QM_TUNNEL = 4
    IKE_MM = 5
    AUTHIP_MM = 6
    CLASSIFY_OPTIONS = 7
    GENERAL = 8
    IKEV2_QM_TUNNEL = 9
    IKEV2_MM = 10
    DOSP = 11
    IKEV2_QM_TRANSPORT = 12
    NETWORK_CONNECTION_POLICY = 13


class KeyModuleType(IntEnum):
    """IKEEXT_KEY_MODULE_TYPE."""

    IKE = 0
    AUTHIP = 1
    IKEV2 = 2


class TransformType(IntEnum):
    """IPSEC_TRANSFORM_TYPE."""

    AH = 1
    ESP_AUTH = 2
    ESP_CIPHER = 3
    ESP_AUTH_AND_CIPHER = 4
    ESP_AUTH_FW = 5


class AuthType(IntEnum):
    """IPSEC_AUTH_TYPE; the AES ones are GMAC."""

    MD5 = 0
    SHA_1 = 1
    SHA_256 = 2
    AES_128 = 3
    AES_192 = 4
    AES_256 = 5
    SHA_384 = 0x10000
    SHA_512 = 0x10001
    POLY1305 = 0x10002


class CipherType(IntEnum):
    """IPSEC_CIPHER_TYPE."""

    DES = 1
    TRIPLE_DES = 2
    AES_128 = 3
    AES_192 = 4
    AES_256 = 5
    CHACHA20 = 0x10000


class PfsGroup(IntEnum):
    """IPSEC_PFS_GROUP.  MAIN_MODE: a main mode of its own for every quick mode."""

    NONE = 0
    MODP_768 = 1
    MODP_1024 = 2
    MODP_2048 = 3
    ECP_256 = 4
    ECP_384 = 5
    MAIN_MODE = 6
    MODP_2048_256 = 7
    CURVE25519 = 0x10000
    CURVE25519_ML_KEM_768 = 0x10001


class DhGroup(IntEnum):
    """IKEEXT_DH_GROUP."""

    NONE = 0
    MODP_768 = 1
    MODP_1024 = 2
    MODP_2048 = 3
    ECP_256 = 4
    ECP_384 = 5
    MODP_2048_256 = 6
    CURVE25519 = 0x10000
    CURVE25519_ML_KEM_768 = 0x10001


class IkeCipher(IntEnum):
    """IKEEXT_CIPHER_TYPE."""

    DES = 0
    TRIPLE_DES = 1
    AES_128 = 2
    AES_192 = 3
    AES_256 = 4
    AES_GCM_128_16ICV = 5
    AES_GCM_256_16ICV = 6
    CHACHA20_POLY1305 = 0x10000


class IkeIntegrity(IntEnum):
    """IKEEXT_INTEGRITY_TYPE; beside a combined-mode cipher it names the PRF alone."""

    MD5 = 0
    SHA1 = 1
    SHA_256 = 2
    SHA_384 = 3
    SHA_512 = 0x10000


class PolicyFlag(IntFlag):
    """IPSEC_POLICY_FLAG_*."""

    ND_SECURE = 0x2
    ND_BOUNDARY = 0x4
    CLEAR_DF_ON_TUNNEL = 0x8
    NAT_ENCAP_ALLOW_PEER_BEHIND_NAT = 0x10
    NAT_ENCAP_ALLOW_GENERAL_NAT_TRAVERSAL = 0x20
    DONT_NEGOTIATE_SECOND_LIFETIME = 0x40
    DONT_NEGOTIATE_BYTE_LIFETIME = 0x80
    ENABLE_V6_IN_V4_TUNNELING = 0x100
    ENABLE_SERVER_ADDR_ASSIGNMENT = 0x200
    TUNNEL_ALLOW_OUTBOUND_CLEAR_CONNECTION = 0x400
    TUNNEL_BYPASS_ALREADY_SECURE_CONNECTION = 0x800
    TUNNEL_BYPASS_ICMPV6 = 0x1000
    KEY_MANAGER_ALLOW_DICTATE_KEY = 0x2000
    KEY_MANAGER_ALLOW_NOTIFY_KEY = 0x4000
    RESERVED1 = 0x8000
    SITE_TO_SITE_TUNNEL = 0x10000


class IkePolicyFlag(IntFlag):
    """IKEEXT_POLICY_FLAG_* (the last three but one without FLAG in their names)."""

    DISABLE_DIAGNOSTICS = 0x1
    NO_MACHINE_LUID_VERIFY = 0x2
    NO_IMPERSONATION_LUID_VERIFY = 0x4
    ENABLE_OPTIONAL_DH = 0x8
    MOBIKE_NOT_SUPPORTED = 0x10
    SITE_TO_SITE = 0x20
    IMS_VPN = 0x40
    ENABLE_IKEV2_FRAGMENTATION = 0x80
    SUPPORT_LOW_POWER_MODE = 0x100
    POINT_TO_SITE = 0x200


class AuthMethodType(IntEnum):
    """IKEEXT_AUTHENTICATION_METHOD_TYPE."""

    PRESHARED_KEY = 0
    CERTIFICATE = 1
    KERBEROS = 2
    ANONYMOUS = 3
    SSL = 4
    NTLM_V2 = 5
    IPV6_CGA = 6
    CERTIFICATE_ECDSA_P256 = 7
    CERTIFICATE_ECDSA_P384 = 8
    SSL_ECDSA_P256 = 9
    SSL_ECDSA_P384 = 10
    EAP = 11
    RESERVED = 12


METHOD_TYPES: Final[Mapping[PrincipalMethod, AuthMethodType]] = MappingProxyType(
    {
        "x509": AuthMethodType.CERTIFICATE,
        "psk": AuthMethodType.PRESHARED_KEY,
        "eap": AuthMethodType.EAP,
        "kerberos": AuthMethodType.KERBEROS,
        "ntlm": AuthMethodType.NTLM_V2,
        "tls": AuthMethodType.SSL,
        "anonymous": AuthMethodType.ANONYMOUS,
    }
)
"""By how a principal was proven."""


class ImpersonationType(IntEnum):
    """IKEEXT_AUTHENTICATION_IMPERSONATION_TYPE."""

    NONE = 0
    SOCKET_PRINCIPAL = 1


class CertConfigType(IntEnum):
    """IKEEXT_CERT_CONFIG_TYPE."""

    EXPLICIT_TRUST_LIST = 0
    ENTERPRISE_STORE = 1
    TRUSTED_ROOT_STORE = 2
    UNSPECIFIED = 3


class CertAuthFlag(IntFlag):
    """IKEEXT_CERT_AUTH_FLAG_*."""

    SSL_ONE_WAY = 0x1
    DISABLE_CRL_CHECK = 0x2
    ENABLE_CRL_CHECK_STRONG = 0x4
    DISABLE_SSL_CERT_VALIDATION = 0x8
    ALLOW_HTTP_CERT_LOOKUP = 0x10
    URL_CONTAINS_BUNDLE = 0x20


class CertRootFlag(IntFlag):
    """IKEEXT_CERT_FLAG_*."""

    ENABLE_ACCOUNT_MAPPING = 0x1
    DISABLE_REQUEST_PAYLOAD = 0x2
    USE_NAP_CERTIFICATE = 0x4
    INTERMEDIATE_CA = 0x8
    IGNORE_INIT_CERT_MAP_FAILURE = 0x10
    PREFER_NAP_CERTIFICATE_OUTBOUND = 0x20
    SELECT_NAP_CERTIFICATE = 0x40
    VERIFY_NAP_CERTIFICATE = 0x80
    FOLLOW_RENEWAL_CERTIFICATE = 0x100


class KerberosFlag(IntFlag):
    """IKEEXT_KERB_AUTH_*; DONT_ACCEPT_EXPLICIT_CREDENTIALS has 0x1 in the NTLMv2 method (IKEEXT_NTLM_V2_AUTH_*)."""

    DISABLE_INITIATOR_TOKEN_GENERATION = 0x1
    DONT_ACCEPT_EXPLICIT_CREDENTIALS = 0x2
    FORCE_PROXY_ON_INITIATOR = 0x4


class DospFlag(IntFlag):
    """IPSEC_DOSP_FLAG_*."""

    ENABLE_IKEV1 = 0x1
    ENABLE_IKEV2 = 0x2
    DISABLE_AUTHIP = 0x4
    DISABLE_DEFAULT_BLOCK = 0x8
    FILTER_BLOCK = 0x10
    FILTER_EXEMPT = 0x20


class ClassifyOptionType(IntEnum):
    """FWP_CLASSIFY_OPTION_TYPE."""

    MULTICAST_STATE = 0
    LOOSE_SOURCE_MAPPING = 1
    UNICAST_LIFETIME = 2
    MCAST_BCAST_LIFETIME = 3
    SECURE_SOCKET_SECURITY_FLAGS = 4
    SECURE_SOCKET_AUTHIP_MM_POLICY_KEY = 5
    SECURE_SOCKET_AUTHIP_QM_POLICY_KEY = 6
    LOCAL_ONLY_MAPPING = 7
