"""What securesock.identity does with a peer's bytes: certificates, IDs; and with names that an application wrote.

The anchors are fixed and their keys were not kept, so that a seed that is believed keeps being believed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from fuzz.registry import fuzz_target
from securesock.errors import AuthenticationFailed, LocalMisuse
from securesock.identity.identity import Identity
from securesock.identity.names import (
    IkeId,
    canonical_id,
    describe_id,
    expected_name_for_host,
    parse_peer_target_name,
    principal_name,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ANCHORS = b"""-----BEGIN CERTIFICATE-----
MIIBgzCCASmgAwIBAgIUaeEcH4kA8nESkJ2yktjH1NF4LuswCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEcm9vdDAeFw0yNTExMjMxMjAwMDBaFw0yNzExMjMxMjAwMDBa
MA8xDTALBgNVBAMMBHJvb3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARbaHeu
FjN3u1pQDBXUmWRg/AdmE1C1DcklthUSQ7YmSdlK9sjAd/nGRXhBHUIqF4schqx6
Kvjz1oAJ7A0/3ETwo2MwYTAdBgNVHQ4EFgQUOSVxSZn+QTfE8g3UhVbfzQImLeow
HwYDVR0jBBgwFoAUOSVxSZn+QTfE8g3UhVbfzQImLeowDwYDVR0TAQH/BAUwAwEB
/zAOBgNVHQ8BAf8EBAMCAQYwCgYIKoZIzj0EAwIDSAAwRQIgSnfXZ/KJPm/xDnit
qDif/zC+gaZz6uzgpjHvzxZYjcMCIQCwancIYB76FJFJPWBhe4DamLi/K9Ohtbi0
nmcR2Y7FHw==
-----END CERTIFICATE-----
-----BEGIN CERTIFICATE-----
MIIBSDCB+6ADAgECAhQePRaM4fHZuOhajIucG8B2y2PonzAFBgMrZXAwEjEQMA4G
A1UEAwwHZWQgcm9vdDAeFw0yNTExMjMxMjAwMDBaFw0yNzExMjMxMjAwMDBaMBIx
EDAOBgNVBAMMB2VkIHJvb3QwKjAFBgMrZXADIQCsqlOg0ziqFY9Por+P2qorgmHl
qRJTUHQGfsI5wJlpwKNjMGEwHQYDVR0OBBYEFCjykIeXUylYZKk7tve94eZ5/J3c
MB8GA1UdIwQYMBaAFCjykIeXUylYZKk7tve94eZ5/J3cMA8GA1UdEwEB/wQFMAMB
Af8wDgYDVR0PAQH/BAQDAgEGMAUGAytlcANBALSoIz1+lWnowkKuvyTiNmBjqAHr
ZvpKYl+w1zQaB41QMfucYMRzH3qjuWyVP9swXWbGTcrAC2Nz6kjpg1ABWgI=
-----END CERTIFICATE-----
"""


@cache
def judge() -> Identity:
    """An identity that trusts the anchors."""
    return Identity.anonymous(trust=[ANCHORS])


@fuzz_target(allowed=(AuthenticationFailed,))
def peer_certificates(data: bytes) -> None:
    """Certificates with two bytes of length before each, from a peer that says that it is b.example."""
    certificates, rest = [], data
    while rest:
        length = int.from_bytes(rest[:2], "big")
        certificates.append(rest[2 : 2 + length])
        rest = rest[2 + length :]
    try:
        proven = judge().validate_certificate(IkeId(2, b"b.example"), certificates, NOW, None)
    except AuthenticationFailed as error:
        if not error.reason or not str(error).isprintable():
            raise ArithmeticError("a refusal that cannot be counted or shown") from error
        raise
    if proven.principal.name != "host/b.example":
        raise ArithmeticError(proven.principal)


@fuzz_target()
def peer_id(data: bytes) -> None:
    """The first byte is the type: an ID has one canonical form and one name."""
    claimed = IkeId(data[0] if data else 0, data[1:])
    if not describe_id(claimed).isprintable():
        raise ArithmeticError(claimed)
    canonical = canonical_id(claimed)
    if canonical_id(canonical) != canonical or principal_name(canonical) != principal_name(claimed):
        raise ArithmeticError(claimed)


@fuzz_target(allowed=(LocalMisuse,))
def peer_target_name(data: bytes) -> None:
    """A name that is read is read again from the name that its principal is shown with."""
    target = parse_peer_target_name(data.decode("utf-8", "replace"))
    if parse_peer_target_name(target.principal).ike_id != target.ike_id:
        raise ArithmeticError(target)


@fuzz_target(allowed=(LocalMisuse,), seeds_of="peer_target_name")
def expected_host(data: bytes) -> None:
    """The host of an address is a host name or an address, and nothing else."""
    target = expected_name_for_host(data.decode("utf-8", "replace"))
    if target.form not in ("fqdn", "address"):
        raise ArithmeticError(target)
