"""The identity that the user configured: where its files are, and what its configuration file may say.

config.toml lies in the user's configuration folder ("securesock" under platformdirs' user folder), else in the
system's; the environment variable SECURESOCK_CONFIG names another folder or file.  Paths in it are relative to it.

    [identity]
    certificate = "machine.pem"             # leaf first, then intermediates
    private_key = "machine.key"             # mode 0600
    trust = ["authority.pem", "trusted"]    # files and folders of authorities
    crl = ["require"]                       # optional: further revocation lists, or "require"

or, with pre-shared keys, each in a file of its own (a final newline is not part of it):

    [identity]
    name = "a.example"
    peers = { "b.example" = "b.psk" }

and, for servers that act as their peers, which account of this machine each of them is:

    [accounts]
    "alice@example.org" = "alice"
    "host/app.example" = "app"

The filtering platform that ss.default_context() asks, and that "securesock policy" edits:

    [policy]
    store = "policy.db"

Unknown keys are errors that name the line: a misspelt "crl" must not pass for none.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..errors import LocalMisuse
from .accounts import NO_ACCOUNTS, AccountMap
from .files import CrlSources
from .identity import Identity

__all__ = [
    "CONFIG_FILE",
    "config_file",
    "load_accounts",
    "load_identity",
    "named_policy_store",
    "own_config_file",
    "policy_store",
    "read_configuration",
    "read_private_file",
]

CONFIG_FILE: Final = "config.toml"
_VARIABLE: Final = "SECURESOCK_CONFIG"
_CERTIFICATE_KEYS: Final = frozenset({"certificate", "private_key", "trust", "crl"})
_PSK_KEYS: Final = frozenset({"name", "peers"})
_TABLES: Final = frozenset({"identity", "accounts", "policy"})
_POLICY_KEYS: Final = frozenset({"store"})
_STORE: Final = "policy.db"
_NEXT_STEP: Final = "make one with 'securesock identity init', or set SECURESOCK_CONFIG to the folder that has one"


def own_config_file() -> Path:
    """SECURESOCK_CONFIG's, else the user's: where "securesock identity init" makes one.  It may not exist."""
    if named := os.environ.get(_VARIABLE):
        path = Path(named)
        return path if path.suffix == ".toml" or path.is_file() else path / CONFIG_FILE
    import platformdirs

    return platformdirs.user_config_path("securesock") / CONFIG_FILE


def config_file() -> Path:
    """The configuration file in force: SECURESOCK_CONFIG's, the user's, or the system's; it may not exist."""
    own = own_config_file()
    if os.environ.get(_VARIABLE) or own.exists():
        return own
    import platformdirs

    system = platformdirs.site_config_path("securesock") / CONFIG_FILE
    return system if system.exists() else own


def read_configuration(path: Path) -> Mapping[str, object]:
    """The tables of a configuration file; LocalMisuse names the line of a syntax error or an unknown table."""
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LocalMisuse(f"{path}: {error}") from None
    for table in tables:
        if table not in _TABLES:
            raise _unknown(path, text, (table,), _TABLES)
    return tables


def load_identity(path: Path | None = None) -> Identity:
    """The identity of a configuration file (by default the one in force); LocalMisuse says what to do next."""
    path = path or config_file()
    if not path.exists():
        raise LocalMisuse(f"no identity is configured: there is no {path}; {_NEXT_STEP}")
    table = read_configuration(path).get("identity")
    if not isinstance(table, dict):
        raise LocalMisuse(f"{path}: there is no table [identity]; {_NEXT_STEP}")
    text = path.read_text(encoding="utf-8")
    known = _PSK_KEYS if "peers" in table or "name" in table else _CERTIFICATE_KEYS
    for key in table:
        if key not in known:
            raise _unknown(path, text, ("identity", key), known)
    if known is _PSK_KEYS:
        return _load_psk(path, table)
    return _load_certificate(path, table)


def load_accounts(path: Path | None = None) -> AccountMap:
    """Table [accounts] of a configuration file (by default the one in force); LocalMisuse names what is no account."""
    path = path or config_file()
    table = read_configuration(path).get("accounts") if path.exists() else None
    if table is None:
        return NO_ACCOUNTS
    if not isinstance(table, dict):
        raise LocalMisuse(f"{path}: [accounts] is a table of principals and the names of their accounts")
    try:
        return AccountMap(table)
    except LocalMisuse as error:
        raise LocalMisuse(f"{path}: [accounts]: {error}") from None


def named_policy_store(path: Path | None = None) -> Path | None:
    """The file that table [policy] of a configuration names, None without one; LocalMisuse for what it cannot say."""
    path = path or config_file()
    table = read_configuration(path).get("policy") if path.exists() else None
    if table is None:
        return None
    if not isinstance(table, dict):
        raise LocalMisuse(f'{path}: [policy] is a table with store = "..."')
    for key in table:
        if key not in _POLICY_KEYS:
            raise _unknown(path, path.read_text(encoding="utf-8"), ("policy", key), _POLICY_KEYS)
    return path.parent / _text(path, table, "store", "policy")


def policy_store() -> Path:
    """Where the policy of this user is: the file that is named, else policy.db beside the configuration in force."""
    return named_policy_store() or config_file().parent / _STORE


def _load_certificate(path: Path, table: Mapping[str, object]) -> Identity:
    if "trust" not in table:
        raise LocalMisuse(f"{path}: [identity] needs trust = [...]; an empty list trusts nobody but pinned keys")
    key_path = path.parent / _text(path, table, "private_key")
    crl: CrlSources = tuple(each if each == "require" else path.parent / each for each in _texts(path, table, "crl"))
    return Identity.from_pem(
        certificate=path.parent / _text(path, table, "certificate"),
        private_key=read_private_file(key_path),
        trust=[path.parent / each for each in _texts(path, table, "trust")],
        crl=crl,
    )


def _load_psk(path: Path, table: Mapping[str, object]) -> Identity:
    peers = table.get("peers")
    if not isinstance(peers, dict) or not all(isinstance(value, str) for value in peers.values()):
        raise LocalMisuse(f"{path}: [identity] peers is a table of peer names and the files of their secrets")
    secrets = {name: read_private_file(path.parent / value).rstrip(b"\r\n") for name, value in peers.items()}
    return Identity.from_psk(_text(path, table, "name"), secrets)


def read_private_file(path: Path) -> bytes:
    """A file that nobody else may read; LocalMisuse when somebody can, as ssh refuses such keys.

    A file of root's may be readable by its group, so that a service's account can be given the key.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if os.name == "posix":
            is_ours = status.st_uid == os.geteuid()
            forbidden = 0o077 if is_ours and status.st_uid != 0 else 0o027
            if status.st_mode & forbidden:
                raise LocalMisuse(
                    f"{path} can be read by others (mode {status.st_mode & 0o777:04o}), and it holds a secret: "
                    f"chmod 600 {path}, and make a new one if others use this machine"
                )
        return file.read()


def _text(path: Path, table: Mapping[str, object], key: str, name: str = "identity") -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise LocalMisuse(f'{path}: [{name}] needs {key} = "..."')
    return value


def _texts(path: Path, table: Mapping[str, object], key: str) -> list[str]:
    value = table.get(key, [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise LocalMisuse(f"{path}: [identity] {key} is a text or a list of texts")
    return values


def _unknown(path: Path, text: str, key: tuple[str, ...], known: frozenset[str]) -> LocalMisuse:
    return LocalMisuse(
        f"{path}, line {_line_of(text, key)}: unknown key {'.'.join(key)}; known here: {', '.join(sorted(known))}"
    )


def _line_of(text: str, key: tuple[str, ...]) -> int:
    """The line on which a key's statement begins: the first that completes a document which has the key.

    tomllib tells no positions; the lines after the last complete document belong to one statement.
    """
    lines = text.splitlines()
    complete = 0
    for number in range(1, len(lines) + 1):
        try:
            value: object = tomllib.loads("\n".join(lines[:number]))
        except tomllib.TOMLDecodeError:
            continue
        for part in key:
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            return complete + 1
        complete = number
    return len(lines)
