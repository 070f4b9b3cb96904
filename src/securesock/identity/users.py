"""Users: their names, and which of them a server accepts by which proof.

A user's name is "alice@example.org" or "alice"; "EXAMPLE\\alice", as Windows writes it, is the former.  The domain is
compared in lower case, the name before it as it is written.  Passwords are kept as their NT hashes, which is all that
MSCHAPv2 needs and as good as the password to whoever gets hold of one: Secrets, shown by nothing, frozen, never
pickled.  Which exchange proves what is keying's business and not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, NoReturn, TypeAlias

from ..crypto.mschap import NT_HASH_LENGTH, nt_hash, require_eap_extra
from ..errors import LocalMisuse, WireError
from ..secret import Secret
from .names import fqdn_id, printable

__all__ = ["NtHash", "UserName", "Users", "hash_password", "parse_user_name", "read_user_name_untrusted"]

# What Windows forbids in a logon name, and what would make a user look like a machine, a URI or a pinned key.
_FORBIDDEN: Final = frozenset('/\\[]:;=,<>@"')
MAX_USER_NAME: Final = 104
"""Windows' own limit for a logon name."""

MAX_WHOLE: Final = 256
"""RFC 2759 4: what MSCHAPv2 has room for, the domain included."""

GivenPassword: TypeAlias = "str | bytes | bytearray | Secret | NtHash"


class UserName(NamedTuple):
    """``domain`` is lower case, and empty where none was given."""

    name: str
    domain: str = ""

    @property
    def principal(self) -> str:
        """As it is shown, and as a network access identifier (RFC 7542): "alice@example.org" or "alice"."""
        return f"{self.name}@{self.domain}" if self.domain else self.name


def read_user_name_untrusted(data: bytes) -> UserName:
    """A name as a peer sends it; WireError for what names no user."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise WireError("a user's name is UTF-8") from None
    domain, backslash, name = text.partition("\\")
    if not backslash:
        name, at, domain = text.partition("@")
        if at and not domain:
            raise WireError("a user's name ends in '@'")
    elif not domain:
        raise WireError("a user's name begins with '\\'")
    if not 0 < len(name) <= MAX_USER_NAME or not name.isprintable() or _FORBIDDEN & set(name) or name != name.strip():
        raise WireError("a user's name has characters that no logon name has, or none")
    if not domain and name.replace(".", "").isdigit():
        raise WireError("a user's name is no number or address")
    return _fitting(UserName(name, fqdn_id(domain).data.decode() if domain else ""))


def _fitting(user: UserName) -> UserName:
    if len(user.principal.encode()) > MAX_WHOLE:
        raise WireError(f"a user's name and domain are longer than {MAX_WHOLE} bytes")
    return user


def parse_user_name(user: str, domain: str = "") -> UserName:
    """What an application writes; ``domain`` may stand apart.  LocalMisuse says what is wrong."""
    try:
        found = read_user_name_untrusted(user.encode())
        if not domain:
            return found
        if found.domain:
            raise LocalMisuse(f"{printable(user)} has a domain already: leave domain_name out")
        return _fitting(UserName(found.name, fqdn_id(domain).data.decode()))
    except WireError as error:
        raise LocalMisuse(f"{printable(user)} is no user: {error}") from None


class NtHash:
    """A password's NT hash, 16 bytes, where a store of users has that and not the password.  Shown by nothing."""

    __slots__ = ("secret",)

    def __init__(self, value: bytes | bytearray | Secret) -> None:
        self.secret = Secret(value)
        if len(self.secret) != NT_HASH_LENGTH:
            raise LocalMisuse(f"an NT hash is {NT_HASH_LENGTH} bytes, not {len(self.secret)}")

    def __repr__(self) -> str:
        return "NtHash(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a password's hash is not pickled")


class Users:
    """Whom a server accepts as users: frozen, shared by sockets.

    ``passwords``: by name, a password (text, or bytes in UTF-8) or its NtHash; proven by EAP-MSCHAPv2.
    ``certificates``: whoever holds a certificate for a mailbox that the identity's trust anchors vouch for; proven by
    EAP-TLS.  Which of the proven ones are let in is the listener's ``allow``.
    LocalMisuse: a name that is none or there twice, an empty password, the extra securesock[eap] missing.
    """

    __slots__ = ("_hashes", "certificates")

    certificates: bool
    _hashes: Mapping[UserName, Secret]

    def __init__(self, passwords: Mapping[str, GivenPassword] | None = None, *, certificates: bool = False) -> None:
        hashes: dict[UserName, Secret] = {}
        if passwords:
            require_eap_extra()
        for text, password in (passwords or {}).items():
            name = parse_user_name(text)
            if name in hashes:
                raise LocalMisuse(f"{name.principal} is there twice, under two spellings of one name")
            hashes[name] = password.secret if isinstance(password, NtHash) else hash_password(name, password)
        if not hashes and not certificates:
            raise LocalMisuse("Users without passwords and without certificates=True accepts nobody: leave it out")
        object.__setattr__(self, "_hashes", MappingProxyType(hashes))
        object.__setattr__(self, "certificates", certificates)

    @property
    def names(self) -> tuple[str, ...]:
        """Those with a password."""
        return tuple(each.principal for each in self._hashes)

    @property
    def by_password(self) -> bool:
        """Whether anybody has a password here."""
        return bool(self._hashes)

    def password_hash(self, user: UserName) -> Secret | None:
        """The NT hash of this user's password, None for whom nothing is known."""
        return self._hashes.get(user)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("Users are frozen: make new ones")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("Users are frozen: make new ones")

    def __repr__(self) -> str:
        by_certificate = ", and whoever has a user's certificate" if self.certificates else ""
        return f"<Users {len(self._hashes)} with a password{by_certificate}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("users' passwords are not pickled")


def hash_password(name: UserName, password: str | bytes | bytearray | Secret) -> Secret:
    """The NT hash of a password; LocalMisuse for an empty one, for bytes that are no text, and without the extra."""
    require_eap_extra()
    held = Secret(password)
    try:
        if not held:
            raise LocalMisuse(f"{name.principal} has an empty password")
        return Secret(nt_hash(held.reveal()))
    except UnicodeDecodeError:
        raise LocalMisuse(f"the password of {name.principal} is not UTF-8") from None
    finally:
        held.wipe()
