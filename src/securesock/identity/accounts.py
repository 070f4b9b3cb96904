"""Which account of this machine a peer is: the mapping that impersonation and nothing else obeys.

A principal is somebody's name in the world, an account is a number that this machine's kernel knows; nobody but the
administrator can say which belongs to which.  Names are exact: no pattern, no realm cut off, no account guessed from a
name that looks like one.  It must not know how a thread acts as somebody (identity/impersonation), nor look an account
up: a mapping is made on machines that do not have the accounts yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ..errors import LocalMisuse, PolicyRefused
from ..types import Principal
from .names import parse_peer_target_name

__all__ = ["NO_ACCOUNTS", "AccountMap"]

_MAX_UID: Final = 0xFFFF_FFFE  # (uid_t) -1 means "no change" to every call that takes one: credentials(7)


class AccountMap(Mapping[str, str | int]):
    """Principals and the local accounts that they are.  Frozen; equal by content.

    ``accounts``: from peer target names ("alice@example.org", "host/app.example", "sha256:...") to names of accounts,
    or user ids.  The superuser is an account like any other when somebody writes its name; the number 0 is refused,
    because a number that was computed, forgotten or misread must not become root.
    LocalMisuse: a key that is no peer target name, two that are one principal, a value that is no account.
    """

    __slots__ = ("_accounts",)

    def __init__(self, accounts: Mapping[str, str | int]) -> None:
        found: dict[str, str | int] = {}
        for written, account in accounts.items():
            principal = parse_peer_target_name(written).principal
            if principal in found:
                raise LocalMisuse(f"accounts: {principal} is there twice; a principal is one account")
            found[principal] = _checked(principal, account)
        self._accounts = found

    def account_of(self, user: Principal | None, machine: Principal | None) -> tuple[Principal, str | int]:
        """Whom the peer is judged as, and the account that this principal is.

        The user where one was proven, and the machine otherwise, as WSAImpersonateSocketPeer has it.  A user without an
        account never becomes the machine that he sits at.  PolicyRefused (EACCES): nobody, or no account.
        """
        principal = user or machine
        if principal is None or principal.method == "anonymous":
            raise PolicyRefused("the peer has proven no name: there is nobody to act as")
        account = self._accounts.get(principal.name)
        if account is None:
            raise PolicyRefused(
                f"{principal} maps to no account on this machine: name one in SecurityContext(accounts=...), "
                "or under [accounts] in config.toml"
            )
        return principal, account

    def __getitem__(self, principal: str) -> str | int:
        return self._accounts[principal]

    def __iter__(self) -> Iterator[str]:
        return iter(self._accounts)

    def __len__(self) -> int:
        return len(self._accounts)

    def __hash__(self) -> int:
        return hash(frozenset(self._accounts.items()))

    def __repr__(self) -> str:
        return f"AccountMap({self._accounts!r})"


def _checked(principal: str, account: str | int) -> str | int:
    if isinstance(account, bool) or not isinstance(account, str | int):
        raise LocalMisuse(f"accounts: {principal} needs the name of an account, or a user id")
    if isinstance(account, str):
        if not account or "\0" in account:
            raise LocalMisuse(f"accounts: {principal} has an account without a name")
    elif account == 0:
        raise LocalMisuse(
            f"accounts: {principal} is given user id 0: write the account's name if the superuser is meant"
        )
    elif not 0 < account <= _MAX_UID:
        raise LocalMisuse(f"accounts: {principal} is given {account}, which is no user id")
    return account


NO_ACCOUNTS: Final = AccountMap({})
