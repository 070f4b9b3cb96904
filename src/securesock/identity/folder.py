"""The folder with a machine's identity, and with the private authority of the machine that has one.

    config.toml                     what Identity.load reads (configured.py)
    machine.pem  machine.key        who this machine is
    authority.pem  authority.crl    whom it trusts, and whom no longer
    trusted/                        further authorities, one file each, with their revocation lists beside them
    authority.key  issued/          only where the authority lives: its key, and what it has issued

Files are replaced whole (written beside, then renamed), so that a reader or a power cut never sees half of one, and
config.toml comes last: before it there is no identity.  Keys are made with mode 0600 and are never replaced.

Every function takes the time from its caller.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ..errors import AuthenticationFailed, LocalMisuse
from .authority import Authority, IssuedCertificate, Validity
from .certificates import authority_fault, label_of, pin_of, read_leaf_untrusted
from .configured import CONFIG_FILE, load_identity, read_configuration, read_private_file
from .credentials import PrivateKey
from .files import expand, is_der_list, load_certificates, load_private_key, load_revocation_lists
from .identity import Identity
from .names import parse_peer_target_name, principal_name, printable
from .revocation import RevocationList, is_signed_by, read_revocation_list
from .trust import TrustAnchors

__all__ = [
    "AUTHORITY_DAYS",
    "LIST_DAYS",
    "MACHINE_DAYS",
    "Bundle",
    "IdentityFolder",
    "TrustedAuthority",
    "TrustedList",
    "folder_name",
    "names_of",
]

AUTHORITY_DAYS: Final = 3650
MACHINE_DAYS: Final = 730
# For how long a revocation list counts as current where one is required; it revokes for ever.
LIST_DAYS: Final = 30
# Clocks of machines that do not know each other yet may differ: a certificate is valid from a little before its making.
_CLOCK_SKEW: Final = timedelta(hours=1)

_TRUSTED: Final = "trusted"
_LIST: Final = "authority.crl"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")

_CONFIG: Final = """\
# The identity of this machine, read by securesock. Paths are relative to this file.
[identity]
certificate = "machine.pem"
private_key = "machine.key"
trust = ["authority.pem", "trusted"]
"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was made for a machine: the folder to take there, and what is in its certificate."""

    folder: Path
    names: tuple[str, ...]
    serial: int
    not_after: datetime
    fingerprint: str
    pin: str


@dataclass(frozen=True, slots=True)
class TrustedAuthority:
    """An authority that was added, or was trusted before."""

    subject: str
    pin: str
    file: Path
    is_new: bool


@dataclass(frozen=True, slots=True)
class TrustedList:
    """A revocation list that was taken into use."""

    issuer: str
    file: Path
    revoked: int


@dataclass(frozen=True, slots=True)
class IdentityFolder:
    """One such folder; it need not exist yet."""

    path: Path

    @classmethod
    def of(cls, config: Path) -> IdentityFolder:
        """The folder of a configuration file; LocalMisuse when that is not called config.toml."""
        if config.name != CONFIG_FILE:
            raise LocalMisuse(
                f"{config} was made by hand and is left to you: name a folder in SECURESOCK_CONFIG, "
                f"in which {CONFIG_FILE} is looked after"
            )
        return cls(config.parent)

    def init(
        self,
        names: Sequence[str],
        authority_name: str,
        now: datetime,
        *,
        permitted: Sequence[str] = (),
        days: int = MACHINE_DAYS,
    ) -> Bundle:
        """Make a private authority and this machine's certificate; LocalMisuse when there is an identity already."""
        present = [name for name in (CONFIG_FILE, "machine.key", "authority.key") if (self.path / name).exists()]
        if present:
            raise LocalMisuse(
                f"{self.path} already holds {', '.join(present)}, and keys are never replaced: "
                "'securesock identity show' says who this machine is; move the folder away to begin anew"
            )
        authority = Authority.create(authority_name, validity=_validity(now, AUTHORITY_DAYS), permitted=permitted)
        issued = _issue(authority, names, now, days)
        for folder in (self.path, self.path / _TRUSTED, self.path / "issued"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_private(self.path / "authority.key", authority.private_key)
        _write(self.path / "authority.pem", authority.pem)
        self._write_list(authority, {}, now, LIST_DAYS)
        return self._write_machine(self.path, authority, issued)

    def issue(self, names: Sequence[str], target: Path, now: datetime, *, days: int = MACHINE_DAYS) -> Bundle:
        """Make a folder for another machine; LocalMisuse when it exists or when no authority lives here."""
        authority = self._authority()
        issued = _issue(authority, names, now, days)
        try:
            target.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            raise LocalMisuse(f"{target} exists already: name another folder with --out") from None
        (target / _TRUSTED).mkdir(mode=0o700)
        for name in ("authority.pem", _LIST):
            _write(target / name, (self.path / name).read_bytes())
        return self._write_machine(target, authority, issued)

    def trust(self, file: Path) -> list[TrustedAuthority | TrustedList]:
        """Trust the authorities in a file, and obey the revocation lists in it.

        LocalMisuse for certificates that are no authority's, and for lists that are older than ours or that no
        authority trusted here has signed; what stands in the file before that is taken.
        """
        data = file.read_bytes()
        has_lists = b"X509 CRL" in data or is_der_list(data)
        done: list[TrustedAuthority | TrustedList] = []
        if b"BEGIN CERTIFICATE" in data or not has_lists:
            done += [self._trust_authority(each) for each in load_certificates(file)]
        if has_lists:
            done += [self._take_list(each) for each, _ in load_revocation_lists(file)]
        return done

    def revoke(self, wanted: str | None, now: datetime, *, days: int = LIST_DAYS) -> list[x509.Certificate]:
        """Revoke what was issued for a name or under a serial number; None signs the list anew for ``days``.

        LocalMisuse when nothing of that name or number was issued here.
        """
        authority = self._authority()
        revoked = {each.serial_number: each.revocation_date_utc for each in self._current_list()}
        chosen = [] if wanted is None else self._find_issued(wanted)
        for certificate in chosen:
            revoked.setdefault(certificate.serial_number, now)
        self._write_list(authority, revoked, now, days)
        return chosen

    def issued(self) -> Iterator[x509.Certificate]:
        """Every certificate that the authority of this folder has issued."""
        for path in sorted((self.path / "issued").glob("*.pem")):
            yield from load_certificates(path)

    def load(self) -> Identity:
        """The identity in this folder."""
        return load_identity(self.path / CONFIG_FILE)

    def _authority(self) -> Authority:
        key_file = self.path / "authority.key"
        if not key_file.exists():
            raise LocalMisuse(
                f"no authority lives in {self.path}: run this on the machine where 'securesock identity init' was run"
            )
        key = load_private_key(read_private_file(key_file), None)
        if not isinstance(key, PrivateKey):
            raise LocalMisuse(f"{key_file}: a key of type {type(key).__name__} signs no certificates")
        return Authority(load_certificates(self.path / "authority.pem")[0], key)

    def _write_machine(self, folder: Path, authority: Authority, issued: IssuedCertificate) -> Bundle:
        certificate = issued.certificate
        pem = certificate.public_bytes(Encoding.PEM)
        _write(self.path / "issued" / f"{certificate.serial_number:040x}.pem", pem)
        if issued.private_key is not None:
            _write_private(folder / "machine.key", issued.private_key)
        _write(folder / "machine.pem", pem)
        _write(folder / CONFIG_FILE, _CONFIG.encode())
        identity = load_identity(folder / CONFIG_FILE)  # what was written is what will be read
        return Bundle(
            folder,
            names_of(certificate),
            certificate.serial_number,
            certificate.not_valid_after_utc,
            identity.fingerprint or "",
            pin_of(certificate.public_key()),
        )

    def _trust_authority(self, certificate: x509.Certificate) -> TrustedAuthority:
        if fault := authority_fault(certificate):
            raise LocalMisuse(
                f"{label_of(certificate)} is not fit to be trusted as an authority: {fault}; "
                "a single machine's key is named with peer='sha256:...' instead"
            )
        label, pin = label_of(certificate), pin_of(certificate.public_key())
        for path in self._trust_files():
            if certificate in load_certificates(path):
                return TrustedAuthority(label, pin, path, is_new=False)
        path = self.path / _TRUSTED / f"{pin.removeprefix('sha256:')[:16]}.pem"
        _write(path, certificate.public_bytes(Encoding.PEM))
        return TrustedAuthority(label, pin, path, is_new=True)

    def _take_list(self, crl: x509.CertificateRevocationList) -> TrustedList:
        issuer = printable(crl.issuer.rfc4514_string())
        for path in self._trust_files():
            anchors = load_certificates(path)
            if not any(anchor.subject == crl.issuer and is_signed_by(crl, anchor) for anchor in anchors):
                continue
            taken = read_revocation_list(crl, issuer, anchors)
            place = path.with_suffix(".crl") if len(anchors) == 1 else path.parent / f"{_short(taken)}.crl"
            if place.exists():
                for present, _ in load_revocation_lists(place):
                    if present.issuer == crl.issuer and present.last_update_utc > crl.last_update_utc:
                        raise LocalMisuse(
                            f"the list of {issuer} from {crl.last_update_utc:%Y-%m-%d %H:%M} UTC is older than the one "
                            f"in {place}, and an older list would bring back what was revoked since"
                        )
            _write(place, crl.public_bytes(Encoding.PEM))
            return TrustedList(issuer, place, len(taken.serials))
        raise LocalMisuse(f"no authority trusted here has signed this list of {issuer}: trust its authority first")

    def _trust_files(self) -> list[Path]:
        """The files that the configuration trusts; LocalMisuse when it would not see what is put into trusted/."""
        config = self.path / CONFIG_FILE
        table = read_configuration(config).get("identity") if config.exists() else None
        entries = table.get("trust") if isinstance(table, dict) else None
        if not isinstance(entries, list) or _TRUSTED not in entries:
            raise LocalMisuse(
                f"{config} does not trust what is in the folder \"{_TRUSTED}\": run 'securesock identity init' first, "
                f'or add "{_TRUSTED}" to the list trust of its table [identity]'
            )
        return [each for entry in entries for each in expand(self.path / str(entry)) if each.exists()]

    def _current_list(self) -> x509.CertificateRevocationList:
        (crl, _), *_ = load_revocation_lists(self.path / _LIST)
        return crl

    def _find_issued(self, wanted: str) -> list[x509.Certificate]:
        try:
            name = parse_peer_target_name(wanted).principal
        except LocalMisuse:
            name = ""
        issued = list(self.issued())
        found = [each for each in issued if name in names_of(each)] or [
            each for each in issued if f"{each.serial_number:x}" == wanted.lower().lstrip("0")
        ]
        if not found:
            known = ", ".join(sorted({name for each in issued for name in names_of(each)}))
            raise LocalMisuse(f"nothing was issued here for {printable(wanted)}; issued were: {known}")
        return found

    def _write_list(self, authority: Authority, revoked: dict[int, datetime], now: datetime, days: int) -> None:
        number = 1
        if (self.path / _LIST).exists():
            for extension in self._current_list().extensions:
                if isinstance(extension.value, x509.CRLNumber):
                    number = extension.value.crl_number + 1
        crl = authority.revocation_list(revoked, at=now, until=now + timedelta(days=days), number=number)
        _write(self.path / _LIST, crl.public_bytes(Encoding.PEM))


def _short(taken: RevocationList) -> str:
    """A file name for a list whose authority shares its file with others."""
    return min(pin_of(anchor.public_key()) for anchor in taken.verified_by).removeprefix("sha256:")[:16]


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names in a certificate, as principals are shown."""
    leaf = read_leaf_untrusted(certificate.public_bytes(Encoding.DER))
    return tuple(principal_name(each) for each in leaf.alternative_names)


def folder_name(name: str) -> str:
    """A file name for a principal's name, whatever is in it."""
    return _UNSAFE.sub("_", name.removeprefix("host/")).strip("._") or "machine"


def _issue(authority: Authority, names: Sequence[str], now: datetime, days: int) -> IssuedCertificate:
    """A certificate that those who trust the authority will take; LocalMisuse before one that they will not."""
    issued = authority.issue(names, validity=_validity(now, days))
    leaf = read_leaf_untrusted(issued.certificate.public_bytes(Encoding.DER))
    try:
        TrustAnchors((authority.certificate,)).validate(leaf, (), now)
    except AuthenticationFailed as error:
        raise LocalMisuse(f"nobody would take what this authority issues here: {error}") from None
    return issued


def _validity(now: datetime, days: int) -> Validity:
    if days < 1:
        raise LocalMisuse(f"a certificate is valid for at least a day, not for {days}")
    return Validity(now - _CLOCK_SKEW, now + timedelta(days=days))


def _write_private(path: Path, key: PrivateKey) -> None:
    """A new key with mode 0600; FileExistsError rather than replace one."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())


def _write(path: Path, data: bytes) -> None:
    """Replace a file whole; what was there stays when anything fails."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
