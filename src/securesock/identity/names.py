"""Names of principals: what an application writes, what an ID payload carries, what is shown.

Three forms of one thing.  A peer target name is text ("host/db.example"), an IkeId is the type and data of an
ID payload (RFC 7296 3.5), and a principal's name is the text that is shown and held against allow lists.  Every
form is canonical before it is compared: FQDNs are lower-case A-labels without a trailing dot, addresses are
their bytes, mailboxes have a lower-case domain, URIs are kept as they are.  Nothing is ever matched by pattern.

The text of a principal's name tells its kind apart without looking at the ID type: "host/" for an FQDN, an
address literal, "scheme://", one "@" and no "=" for a mailbox, "TYPE=" for a distinguished name, "sha256:" for a
pinned key.  The grammars below keep those apart, so that no certificate can be made to look like another kind.

This module knows no certificates and no secrets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.x509.oid import NameOID

from ..errors import AuthenticationFailed, LocalMisuse, WireError
from ..types import ANY_TRUSTED_PEER, AnyTrustedPeer, PrincipalKind
from ..wire.id_types import IdType

__all__ = [
    "IkeId",
    "PeerTargetName",
    "TargetForm",
    "address_id",
    "canonical_id",
    "check_expected",
    "describe_id",
    "expected_name_for_host",
    "fqdn_id",
    "mailbox_id",
    "parse_peer_target_name",
    "principal_kind",
    "principal_name",
    "printable",
    "uri_id",
    "uri_text",
]

TargetForm: TypeAlias = Literal["fqdn", "address", "uri", "pin", "user"]

# Patterns are compiled, and kept, by the first name that they are held against.
# RFC 1035 2.3.4: a name is at most 255 octets on the wire, 253 characters as text; a label 63.  Underscores are no
# host name characters, but container and service names have them.
MAX_FQDN_LENGTH: Final = 253
_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_FQDN: Final = rf"{_LABEL}(?:\.{_LABEL})*\Z"
# RFC 5322 3.2.3 atext without "/" and "=", which would let a mailbox look like "host/..." or a distinguished name.
_LOCAL_PART: Final = r"[A-Za-z0-9!#$%&'*+?^_`{|}~.-]{1,64}\Z"
# RFC 3986 2: only the characters of a URI; "//" makes it hierarchical, as every identity URI in use is.
_URI: Final = r"[a-z][a-z0-9+.-]*://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+\Z"
# SPIFFE-ID 2.1 to 2.4: a trust domain, then segments that are never empty, "." or "..".
_SPIFFE: Final = r"spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*\Z"
MAX_URI_LENGTH: Final = 2048  # SPIFFE-ID 2.3
# RFC 5280 appendix A.1 bounds attributes to 64 or 128 characters; a principal's name is shown and logged as a whole.
MAX_DISTINGUISHED_NAME: Final = 1024
_PIN: Final = r"sha256:[0-9a-f]{64}\Z"
_URI_TAG = 0x86  # RFC 5280 4.2.1.6: uniformResourceIdentifier [6] IA5String


class IkeId(NamedTuple):
    """The type and data of an ID payload (RFC 7296 3.5)."""

    id_type: int
    data: bytes


class PeerTargetName(NamedTuple):
    """The principal that an application expects at the other end (SOCKET_PEER_TARGET_NAME, mstcpip.h).

    ``text`` is what was written; ``ike_id`` the canonical ID that must be proven, None for a pinned key.
    """

    text: str
    form: TargetForm
    ike_id: IkeId | None

    @property
    def principal(self) -> str:
        """The name that the proven principal will be shown with."""
        return self.text if self.ike_id is None else principal_name(self.ike_id)

    def __str__(self) -> str:
        return self.text


def parse_peer_target_name(text: str) -> PeerTargetName:
    """Read what an application wrote as a peer's name; LocalMisuse says what is wrong with it."""
    if not isinstance(text, str) or not text:
        raise LocalMisuse("a peer target name is a text that is not empty, such as 'host/db.example'")
    if text.startswith("sha256:"):
        if not re.match(_PIN, text):
            raise LocalMisuse(
                f"{printable(text)}: a pinned key is 'sha256:' and 64 lower-case hex digits of SHA-256 "
                "over the DER SubjectPublicKeyInfo"
            )
        return PeerTargetName(text, "pin", None)
    if "://" in text:
        return PeerTargetName(text, "uri", _or_misuse(text, uri_id, text))
    if text.startswith("host/"):
        return PeerTargetName(text, "fqdn", _or_misuse(text, fqdn_id, text.removeprefix("host/")))
    if "@" in text:
        return PeerTargetName(text, "user", _or_misuse(text, mailbox_id, text))
    address = _read_address(text)
    if address is not None:
        return PeerTargetName(text, "address", address_id(address))
    return PeerTargetName(text, "fqdn", _or_misuse(text, fqdn_id, text))


def expected_name_for_host(host: str) -> PeerTargetName:
    """The name to be proven when an application named none: the host of the address that it connects to.

    A scope ("%eth0") says which way, not who, and the root's trailing dot is resolver syntax: both are left out.
    LocalMisuse when it is no host: an application that means another kind of name has to say so.
    """
    name = host.partition("%")[0]
    target = parse_peer_target_name(name.removesuffix(".") if len(name) > 1 else name)
    if target.form not in ("fqdn", "address") or "/" in name:
        raise LocalMisuse(f"{printable(host)} is no host: name the expected peer with peer=...")
    return target


def _or_misuse(text: str, read: Callable[[str], IkeId], value: str) -> IkeId:
    try:
        return read(value)
    except WireError as error:
        raise LocalMisuse(f"{printable(text)} is no peer target name: {error}") from None


def fqdn_id(name: str) -> IkeId:
    """The canonical ID_FQDN of a host name; WireError when it is none (a wildcard, an address, a trailing dot)."""
    lower = name.lower()
    if not name.isascii():
        raise WireError("a host name is written with its A-labels (xn--...)")
    if len(lower) > MAX_FQDN_LENGTH or not re.match(_FQDN, lower):
        raise WireError("a host name is labels of letters, digits, '-' and '_', without wildcard or trailing dot")
    if lower.rpartition(".")[2].isdigit():
        raise WireError("a host name does not end in a number; an address is written alone, without 'host/'")
    return IkeId(IdType.ID_FQDN, lower.encode())


def mailbox_id(text: str) -> IkeId:
    """The canonical ID_RFC822_ADDR of "alice@realm"; WireError when it is none."""
    local, at, domain = text.partition("@")
    if not at or not re.match(_LOCAL_PART, local):
        raise WireError("a user is 'name@realm'")
    return IkeId(IdType.ID_RFC822_ADDR, local.encode() + b"@" + fqdn_id(domain).data)


def uri_id(text: str) -> IkeId:
    """The ID_DER_ASN1_GN of a URI: a GeneralName [6] of RFC 5280 4.2.1.6; WireError when it is none."""
    if len(text) > MAX_URI_LENGTH or not re.match(_URI, text):
        raise WireError(f"a URI is 'scheme://...' in at most {MAX_URI_LENGTH} of the characters of RFC 3986")
    if text.startswith("spiffe:") and not re.match(_SPIFFE, text):
        raise WireError("a SPIFFE ID is 'spiffe://trust-domain/path', the trust domain in lower case")
    return IkeId(IdType.ID_DER_ASN1_GN, bytes((_URI_TAG,)) + _der_length(len(text)) + text.encode())


def canonical_id(ike_id: IkeId) -> IkeId:
    """The one form in which two IDs of the same principal are equal; WireError for what names nobody."""
    id_type, data = ike_id
    match id_type:
        case IdType.ID_FQDN:
            return fqdn_id(_ascii(data))
        case IdType.ID_RFC822_ADDR:
            return mailbox_id(_ascii(data))
        case IdType.ID_DER_ASN1_GN:
            return uri_id(_uri_of(data))
        case IdType.ID_IPV4_ADDR if len(data) == 4:
            return ike_id
        case IdType.ID_IPV6_ADDR if len(data) == 16:
            return ike_id
        case IdType.ID_DER_ASN1_DN:
            _distinguished_name(data)
            return ike_id
    from ..wire.numbers import name_of  # for messages alone; below likewise

    raise WireError(f"an ID of type {name_of(IdType, id_type)} and {len(data)} bytes names no principal")


def principal_name(ike_id: IkeId) -> str:
    """The name that a proven ID is shown with (Principal.name); WireError for what names nobody."""
    id_type, data = canonical_id(ike_id)
    if id_type == IdType.ID_FQDN:
        return "host/" + data.decode()
    if id_type == IdType.ID_DER_ASN1_GN:
        return _uri_of(data)
    if id_type == IdType.ID_DER_ASN1_DN:
        return _distinguished_name(data)
    return data.decode() if id_type == IdType.ID_RFC822_ADDR else str(ip_address(data))


def uri_text(ike_id: IkeId) -> str:
    """The URI of a canonical ID_DER_ASN1_GN, empty for every other ID."""
    return _uri_of(ike_id.data) if ike_id.id_type == IdType.ID_DER_ASN1_GN else ""


def principal_kind(ike_id: IkeId) -> PrincipalKind:
    """A mailbox is a user's name, and so is a distinguished name that holds one; all others are machines'."""
    if ike_id.id_type == IdType.ID_RFC822_ADDR:
        return "user"
    if ike_id.id_type == IdType.ID_DER_ASN1_DN:
        name = x509.Name.from_bytes(ike_id.data)
        if any(attribute.oid in _USER_ATTRIBUTES for attribute in name):
            return "user"
    return "machine"


_USER_ATTRIBUTES: Final = frozenset({NameOID.EMAIL_ADDRESS, NameOID.USER_ID})


def describe_id(ike_id: IkeId) -> str:
    """An ID for a message to people, whatever a peer put into it."""
    try:
        return principal_name(ike_id)
    except WireError:
        from ..wire.numbers import name_of

        return f"an ID of type {name_of(IdType, ike_id.id_type)} that names nobody"


def check_expected(
    expected: PeerTargetName | AnyTrustedPeer | None, peer_id: IkeId, kind: PrincipalKind | None = None
) -> None:
    """Hold a proven ID against the name that the application expects; AuthenticationFailed when it is another's.

    None is a responder that takes any principal whom it can prove.  ID_NULL never satisfies a name (RFC 7619 2.2).
    A pinned key is not proven by an ID: it never matches here.  ``kind`` is known better than from the ID alone by
    who saw the certificate.
    """
    if expected is None or (isinstance(expected, PeerTargetName) and peer_id == expected.ike_id):
        return
    try:
        proven = canonical_id(peer_id)
    except WireError as error:
        raise AuthenticationFailed(f"the peer has no name: {error}", reason="no-name") from None
    if expected is ANY_TRUSTED_PEER:
        if (kind or principal_kind(proven)) != "machine":
            raise AuthenticationFailed(
                f"the peer is the user {principal_name(proven)}, and any trusted machine was expected", reason="user"
            )
        return
    if proven != expected.ike_id:
        raise AuthenticationFailed(
            f"the peer is {principal_name(proven)}, and {expected} was expected: "
            "name the peer that is meant, or check which host this address leads to",
            reason="other-name",
        )


def printable(text: str, limit: int = 200) -> str:
    """Text of unknown origin for a message: control characters escaped, at most ``limit`` characters."""
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[:limit])
    return shown if len(text) <= limit else shown + "..."


def _read_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise LocalMisuse(f"{printable(text)}: a peer's address is written without its scope")
        # a dual-stack socket shows an IPv4 host so; certificates name the IPv4 address
        return address.ipv4_mapped or address
    return address


def address_id(address: IPv4Address | IPv6Address) -> IkeId:
    """The ID of an address: its bytes."""
    return IkeId(IdType.ID_IPV4_ADDR if address.version == 4 else IdType.ID_IPV6_ADDR, address.packed)


def _ascii(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise WireError("an ID holds bytes that are no ASCII") from None


def _distinguished_name(data: bytes) -> str:
    if len(data) > MAX_DISTINGUISHED_NAME:
        raise WireError(f"a distinguished name of {len(data)} bytes is longer than any in use")
    try:
        name = x509.Name.from_bytes(data).rfc4514_string()
    except (ValueError, TypeError):
        raise WireError("ID_DER_ASN1_DN holds no distinguished name") from None
    if not name or not name.isprintable():
        raise WireError("a distinguished name is empty or holds control characters")
    return name


def _uri_of(data: bytes) -> str:
    if data[:1] != bytes((_URI_TAG,)):
        raise WireError("ID_DER_ASN1_GN names nobody unless it is a URI")
    for header in (2, 3, 4):  # tag and a DER length of one, two or three octets: MAX_URI_LENGTH needs no more
        if data[1:header] == _der_length(len(data) - header):
            return _ascii(data[header:])
    raise WireError("ID_DER_ASN1_GN has a length that is not DER or not its own")


def _der_length(length: int) -> bytes:
    """X.690 8.1.3: one octet up to 127, else the count of octets and the octets."""
    if length < 0x80:
        return bytes((max(length, 0),))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets
