"""Keys in the form that Wireshark reads, for whoever asked for them with SECURESOCK_KEYLOG.

One line of its ikev2_decryption_table for an IKE_SA, one of its esp_sa for each direction of a CHILD_SA.  A line that
it does not take costs it the whole table, so that an IKE_SA under a cipher that the table has no word for is a remark.
This only words the lines; whether anybody asked, and where they go, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...crypto import suites
from ...crypto.suites import EspSuite, IkeSuite
from ...sad.spec import SaSpec
from ..contract import KeyMaterial
from .ike_sa import IkeSa

__all__ = ["esp_line", "ike_line"]

_NO_INTEGRITY: Final = "NONE [RFC4306]"
_IKE_ENCRYPTIONS: Final[Mapping[suites.Encryption, str]] = {
    suites.AES_128_GCM_16: "AES-GCM-128 with 16 octet ICV [RFC5282]",
    suites.AES_256_GCM_16: "AES-GCM-256 with 16 octet ICV [RFC5282]",
    suites.AES_128_CBC: "AES-CBC-128 [RFC3602]",
    suites.AES_256_CBC: "AES-CBC-256 [RFC3602]",
}
_IKE_INTEGRITIES: Final[Mapping[suites.Integrity, str]] = {
    suites.HMAC_SHA2_256_128: "HMAC_SHA2_256_128 [RFC4868]",
    suites.HMAC_SHA2_384_192: "HMAC_SHA2_384_192 [RFC4868]",
    suites.HMAC_SHA2_512_256: "HMAC_SHA2_512_256 [RFC4868]",
}
_ESP_ENCRYPTIONS: Final[Mapping[suites.Encryption, str]] = {
    suites.AES_128_GCM_16: "AES-GCM with 16 octet ICV [RFC4106]",
    suites.AES_256_GCM_16: "AES-GCM with 16 octet ICV [RFC4106]",
    suites.CHACHA20_POLY1305: "ChaCha20 with Poly1305 [RFC7634]",  # Wireshark 4.0 has no word for it yet
    suites.AES_128_CBC: "AES-CBC [RFC3602]",
    suites.AES_256_CBC: "AES-CBC [RFC3602]",
    suites.NULL: "NULL",
    # Wireshark has no word for GMAC; the text can be read as it is
    suites.AES_128_GMAC: "NULL",
    suites.AES_192_GMAC: "NULL",
    suites.AES_256_GMAC: "NULL",
}
_ESP_INTEGRITIES: Final[Mapping[suites.Integrity, str]] = {
    suites.HMAC_SHA2_256_128: "HMAC-SHA-256-128 [RFC4868]",
    suites.HMAC_SHA2_384_192: "HMAC-SHA-384-192 [RFC4868]",
    suites.HMAC_SHA2_512_256: "HMAC-SHA-512-256 [RFC4868]",
}


def ike_line(sa: IkeSa) -> KeyMaterial:
    """SPIs, then the keys of both directions with the algorithms' Wireshark names.

    After an IKE_INTERMEDIATE (RFC 9242) the same SPIs have other keys, and another line.
    """
    suite: IkeSuite = sa.suite
    integrity = _NO_INTEGRITY if suite.integrity is None else _IKE_INTEGRITIES[suite.integrity]
    encryption = _IKE_ENCRYPTIONS.get(suite.encryption)
    line = ",".join(
        (
            sa.initiator_spi.hex(),
            sa.responder_spi.hex(),
            sa.keys.sk_ei.hex(),
            sa.keys.sk_er.hex(),
            f'"{encryption or suite.encryption.name}"',
            sa.keys.sk_ai.hex(),
            sa.keys.sk_ar.hex(),
            f'"{integrity}"',
        )
    )
    return KeyMaterial("ikev2_decryption_table", line if encryption else f"# {line}")


def esp_line(spec: SaSpec) -> KeyMaterial:
    """Any addresses (an SPI of 32 random bits is enough), SPI, algorithms, keys; the salt stays behind the key.

    The last two say how long sequence numbers are and what their upper half is: 0 for the first 2^32 packets.
    Wireshark 4.0 takes lines with them and does not look.
    """
    suite: EspSuite = spec.suite
    integrity = "NULL" if suite.integrity is None else _ESP_INTEGRITIES[suite.integrity]
    integrity_key = f"0x{spec.keys.integrity.hex()}" if spec.keys.integrity else ""
    values = (
        "IPv6" if ":" in spec.flow.responder_host else "IPv4",
        "*",
        "*",
        f"0x{spec.spi:08x}",
        _ESP_ENCRYPTIONS[suite.encryption],
        f"0x{spec.keys.encryption.hex()}",
        integrity,
        integrity_key,
        "64-bit" if suite.esn else "32-bit",
        "0",
    )
    return KeyMaterial("esp_sa", ",".join(f'"{each}"' for each in values))
