"""SecurityContext: who this process is and what it may agree to, shared by many sockets as ssl.SSLContext is.

Frozen, so that a connection in the middle of a negotiation and a listener's thread see the same.  It must not know
sockets, nor how anything is negotiated.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ..errors import LocalMisuse
from ..identity.accounts import NO_ACCOUNTS, AccountMap
from ..identity.identity import Identity
from ..identity.names import principal_kind
from ..policy.negotiation import (
    DEFAULT_MAIN_MODE,
    DEFAULT_QUICK_MODE,
    KeyExchangePreference,
    MainModePolicy,
    QuickModePolicy,
    main_mode_offers,
)
from .admission import NO_GROUPS, PrincipalGroups
from .fork import in_child
from .user_tries import UserTries

if TYPE_CHECKING:
    from pathlib import Path

    from ..identity.ppk import Ppk
    from ..identity.users import Users
    from ..keying.tickets import TicketBook
    from ..policy.filter_engine import FilterEngine
    from .peer_entry import PeerEntry

__all__ = ["PlaneName", "SecurityContext", "default_context"]

PlaneName: TypeAlias = Literal["auto", "userspace", "kernel", "windows"]

_PLANES: Final = ("auto", "userspace", "kernel", "windows")
_KEY_EXCHANGES: Final = ("hybrid", "hybrid-required", "classical")


@dataclass(frozen=True, slots=True)
class SecurityContext:
    """An identity and the choices that go with it.  Frozen and shared between sockets and threads.

    ``identity``: who we are and whom we trust.
    ``plane``: what carries protected bytes; "auto" takes the best that can carry the socket at hand.
    ``key_exchange``: "hybrid" offers ML-KEM-768 beside the classical exchange and accepts a peer without it,
    "hybrid-required" refuses such a peer, "classical" does not offer it.
    ``main_mode``, ``quick_mode``: what may be negotiated, in full; a ``main_mode`` of one's own says everything, so
    ``key_exchange`` is left at its default then.
    ``accounts``: which account of this machine a peer is, for impersonate_peer(): {"alice@example.org": "alice"}; a
    mapping of one's own becomes an AccountMap, which says what may be in it.
    ``peers``: which addresses datagram sockets reach through standard IPsec hosts; the first entry that fits counts.
    ``policy``: the filtering platform that is asked about every flow and that sockets put their filters into
    (docs/policy.md); without it the context's own policies are all there is.  The engine stays the caller's to close.
    ``users``: whom a server accepts as users, who prove themselves by EAP to its certificate; None accepts nobody.
    ``user``: an identity with a user's certificate, which whoever connects proves by EAP-TLS instead of ``identity``;
    a user with a password is IPsecSettings' matter.  ``eap_only``: EAP-TLS alone may prove the server too (RFC 5998).
    ``ppks``: post-quantum preshared keys (RFC 8784); of several the first that is for the peer is used.
    ``resumption``: UDP sockets with this context resume sessions that were lost, and let them be resumed (RFC 5723).
    Nothing is asked of certificates then and no new key exchange is made, for up to an hour; so it is off by default.
    ``tickets`` is the book that it keeps, made where it is left out.
    ``groups``: by name, the principals that filters and allow= mean with "group:NAME", as peer target names or globs.
    LocalMisuse: an unknown plane or key exchange, a contradiction, accounts, peers, users, groups, keys that are none.
    """

    identity: Identity
    plane: PlaneName = field(default="auto", kw_only=True)
    key_exchange: KeyExchangePreference = field(default="hybrid", kw_only=True)
    main_mode: MainModePolicy = field(default=DEFAULT_MAIN_MODE, kw_only=True)
    quick_mode: QuickModePolicy = field(default=DEFAULT_QUICK_MODE, kw_only=True)
    accounts: Mapping[str, str | int] = field(default=NO_ACCOUNTS, kw_only=True)
    peers: tuple[PeerEntry, ...] = field(default=(), kw_only=True)
    policy: FilterEngine | None = field(default=None, kw_only=True)
    users: Users | None = field(default=None, kw_only=True)
    user: Identity | None = field(default=None, kw_only=True)
    eap_only: bool = field(default=False, kw_only=True)
    ppks: Sequence[Ppk] = field(default=(), kw_only=True)
    user_tries: UserTries = field(default_factory=UserTries, init=False, repr=False, compare=False)
    resumption: bool = field(default=False, kw_only=True)
    tickets: TicketBook | None = field(default=None, repr=False, compare=False, kw_only=True)
    groups: Mapping[str, Iterable[str]] = field(default=NO_GROUPS, kw_only=True)

    def __post_init__(self) -> None:
        if self.resumption and self.tickets is None:
            from .ticket_books import SharedTicketBook  # for those who resume, as are the others below

            object.__setattr__(self, "tickets", SharedTicketBook())
        if self.plane not in _PLANES:
            raise LocalMisuse(f"there is no plane {self.plane!r}; choose one of {', '.join(_PLANES)}")
        if self.key_exchange not in _KEY_EXCHANGES:
            raise LocalMisuse(
                f"there is no key exchange preference {self.key_exchange!r}; choose one of {', '.join(_KEY_EXCHANGES)}"
            )
        if not isinstance(self.accounts, AccountMap):
            object.__setattr__(self, "accounts", AccountMap(self.accounts))
        object.__setattr__(self, "peers", tuple(self.peers))
        if self.peers:
            self._check_peers()
        self._check_users()
        if not isinstance(self.groups, PrincipalGroups):
            object.__setattr__(self, "groups", PrincipalGroups(self.groups))
        if self.key_exchange != "hybrid":
            if self.main_mode is not DEFAULT_MAIN_MODE:
                raise LocalMisuse("main_mode names its key exchanges itself: leave key_exchange out")
            offers = main_mode_offers(self.key_exchange)
            object.__setattr__(self, "main_mode", MainModePolicy(offers, DEFAULT_MAIN_MODE.lifetimes))

    def _check_peers(self) -> None:
        from .peer_entry import PeerEntry

        if not all(isinstance(each, PeerEntry) for each in self.peers):
            raise LocalMisuse("peers is a sequence of PeerEntry")

    def _check_users(self) -> None:
        if self.users is not None:
            from ..identity.users import Users

            if not isinstance(self.users, Users):
                raise LocalMisuse("users is a Users(...), which says what each of them is proven by")
            if self.identity.method != "x509":
                raise LocalMisuse("users prove themselves to nothing but a certificate, and this identity has none")
        if self.user is not None and not any(principal_kind(each) == "user" for each in self.user.ids):
            raise LocalMisuse(f"user is an identity with a user's certificate, and {self.user!r} names no mailbox")
        if self.eap_only and self.user is None and (self.users is None or not self.users.certificates):
            raise LocalMisuse("eap_only is for users with certificates: give user=, or users=Users(certificates=True)")
        object.__setattr__(self, "ppks", tuple(self.ppks))
        if self.ppks:
            self._check_ppks()

    def _check_ppks(self) -> None:
        from ..identity.ppk import Ppk

        if not all(isinstance(each, Ppk) for each in self.ppks):
            raise LocalMisuse("ppks is a sequence of Ppk")
        if self.identity.method == "anonymous" and not all(each.mandatory for each in self.ppks):
            raise LocalMisuse("an anonymous identity's PPKs are mandatory (RFC 8784 5.2.3)")

    @property
    def principal_groups(self) -> PrincipalGroups:
        """``groups``, as they were read."""
        return self.groups if isinstance(self.groups, PrincipalGroups) else PrincipalGroups(self.groups)


class _Loaded:
    """The contexts of this process's configurations; the lock is a new one after a fork."""

    def __init__(self) -> None:
        self.by_configuration: dict[str, SecurityContext] = {}
        self.renew_lock()

    def renew_lock(self) -> None:
        self.lock = threading.Lock()


_loaded: Final = _Loaded()
in_child(_loaded.renew_lock)


def _opened(store: Path) -> FilterEngine:
    from ..policy.filter_engine import FilterEngine  # brings a database, which few need

    engine = FilterEngine.open(store)
    atexit.register(engine.close)  # nobody else knows it
    return engine


def default_context() -> SecurityContext:
    """The context of the user's own configuration, loaded once per process (and per SECURESOCK_CONFIG).

    With a table [policy] in it the filtering platform of that file is asked about every flow; what sockets put into it
    ends with the process.  Whatever Identity.load raises when there is none: LocalMisuse says what to do.
    """
    # reads files: for those who have a configuration
    from ..identity.configured import load_accounts, named_policy_store

    key = os.environ.get("SECURESOCK_CONFIG", "")
    with _loaded.lock:
        context = _loaded.by_configuration.get(key)
        if context is None:
            identity, accounts, store = Identity.load(), load_accounts(), named_policy_store()
            context = SecurityContext(identity, accounts=accounts, policy=None if store is None else _opened(store))
            _loaded.by_configuration[key] = context
        return context
