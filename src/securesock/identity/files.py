"""Certificates, keys and revocation lists as users hand them over: paths, folders, PEM or DER bytes.

Reads files, once, when an identity is made.  What is wrong with their content is LocalMisuse naming the file; the
system's own errors (FileNotFoundError, PermissionError) pass unchanged.  A password and a key are in no message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, TypeGuard

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, load_pem_private_key

from ..errors import LocalMisuse
from ..secret import Secret
from .revocation import RevocationList, read_revocation_list
from .trust import TrustAnchors

if TYPE_CHECKING:
    from .authority import Authority

__all__ = [
    "CrlSources",
    "Source",
    "TrustSource",
    "der_of",
    "expand",
    "is_der_list",
    "label_of_source",
    "load_certificates",
    "load_private_key",
    "load_revocation_lists",
    "load_trust",
]

Source: TypeAlias = str | bytes | os.PathLike[str]
"""A path, or the PEM or DER bytes themselves (a str that holds a PEM block is taken as one)."""
TrustSource: TypeAlias = "Source | Authority"
CrlSources: TypeAlias = Literal["require"] | Sequence[Source]
"""Further revocation lists; "require", alone or among them, refuses certificates without a current list."""

_PEM: Final = b"-----BEGIN "
_CRL_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_CERTIFICATE_SUFFIXES: Final = frozenset({".pem", ".crt", ".cer"})


class _Content(NamedTuple):
    data: bytes
    label: str


def load_certificates(source: Source) -> list[x509.Certificate]:
    """Every certificate of one file or PEM bundle, in order; LocalMisuse when there is none."""
    content = _read(source)
    try:
        if _PEM in content.data:
            return x509.load_pem_x509_certificates(content.data)
        return [x509.load_der_x509_certificate(content.data)]
    except ValueError as error:
        raise LocalMisuse(f"{content.label} holds no certificate that can be read: {error}") from None


def load_private_key(source: Source, password: str | bytes | bytearray | Secret | None) -> object:
    """The private key of a PEM or DER file; LocalMisuse when it cannot be read or the password is not its own."""
    content = _read(source)
    load = load_pem_private_key if _PEM in content.data else load_der_private_key
    held = None if password is None else Secret(password)
    try:
        return load(content.data, None if held is None else held.reveal())
    except TypeError:
        is_missing = password is None
        raise LocalMisuse(
            f"the private key in {content.label} is "
            + ("encrypted: give its password" if is_missing else "not encrypted: leave the password out")
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise LocalMisuse(
            f"{content.label} holds no private key that can be read, or the password is not its own"
        ) from None
    finally:
        if held is not None:
            held.wipe()


def load_trust(trust: TrustSource | Sequence[TrustSource], crl: CrlSources) -> TrustAnchors:
    """Trust anchors from files, folders and authorities, with the revocation lists beside them and those given."""
    anchors: dict[x509.Certificate, None] = {}
    list_sources: dict[Source, None] = {}
    for source in _sources(trust):
        if not isinstance(source, (str, bytes, os.PathLike)):
            anchors[_certificate_of(source)] = None
            continue
        if isinstance(source, bytes) or not _is_path(source):
            anchors.update(dict.fromkeys(load_certificates(source)))
            continue
        for path in expand(Path(source)):
            anchors.update(dict.fromkeys(load_certificates(path)))
            list_sources.update(dict.fromkeys(_lists_beside(path)))
    given = [crl] if isinstance(crl, (str, bytes, os.PathLike)) else list(crl)
    list_sources.update(dict.fromkeys(each for each in given if each != "require"))
    revocation: dict[x509.Name, tuple[RevocationList, ...]] = {}
    for each in list_sources:
        for revoked, label in load_revocation_lists(each):
            entry = read_revocation_list(revoked, label, anchors)
            revocation[revoked.issuer] = (*revocation.get(revoked.issuer, ()), entry)
    return TrustAnchors(tuple(anchors), revocation, crl_required="require" in given)


def _sources(trust: TrustSource | Sequence[TrustSource]) -> list[TrustSource]:
    if isinstance(trust, (str, bytes, os.PathLike)):
        return [trust]
    if isinstance(trust, (list, tuple)):
        return list(trust)
    from .authority import Authority  # issues certificates, which few programs do

    return [trust] if isinstance(trust, Authority) else list(trust)


def _certificate_of(authority: object) -> x509.Certificate:
    from .authority import Authority

    if not isinstance(authority, Authority):
        raise _no_source(authority)
    return authority.certificate


def der_of(certificates: Sequence[x509.Certificate]) -> tuple[bytes, ...]:
    """The DER of each."""
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)


def label_of_source(source: Source) -> str:
    """What messages call it: the path; never the content."""
    return os.fspath(source) if _is_path(source) else "what was given"


def _no_source(given: object) -> LocalMisuse:
    return LocalMisuse(f"certificates and keys are given as paths or as bytes, not as {type(given).__name__}")


def _read(source: Source) -> _Content:
    if not isinstance(source, (str, bytes, os.PathLike)):
        raise _no_source(source)
    if _is_path(source):
        return _Content(Path(source).read_bytes(), label_of_source(source))
    return _Content(source if isinstance(source, bytes) else str(source).encode(), label_of_source(source))


def expand(path: Path) -> list[Path]:
    """A folder stands for the certificate files in it."""
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.iterdir() if each.suffix in _CERTIFICATE_SUFFIXES)


def _lists_beside(path: Path) -> list[Path]:
    """Every revocation list in the folder of a trust file; lists of issuers who are not trusted change nothing."""
    return sorted(path.absolute().parent.glob("*.crl"))


def _is_path(source: str | os.PathLike[str] | bytes) -> TypeGuard[str | os.PathLike[str]]:
    return not isinstance(source, bytes) and not (isinstance(source, str) and _PEM.decode() in source)


def load_revocation_lists(source: Source) -> list[tuple[x509.CertificateRevocationList, str]]:
    """Every list of one file, with its name for messages; LocalMisuse when there is none or one cannot be read."""
    content = _read(source)
    try:
        if _PEM not in content.data:
            lists = [x509.load_der_x509_crl(content.data)]
        else:
            lists = [x509.load_pem_x509_crl(block) for block in _CRL_BLOCK.findall(content.data)]
        if not lists:
            raise ValueError("it has no block 'X509 CRL'")
        for crl in lists:
            crl.issuer.rfc4514_string()  # names are read late: a malformed one is to be found here
    except ValueError as error:
        raise LocalMisuse(f"{content.label} holds no revocation list that can be read: {error}") from None
    return [(crl, content.label) for crl in lists]


def is_der_list(data: bytes) -> bool:
    """Whether these bytes are one DER revocation list."""
    try:
        x509.load_der_x509_crl(data)
    except ValueError:
        return False
    return True
