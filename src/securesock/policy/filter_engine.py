"""FilterEngine: the filtering platform as programs use it.

    engine = FilterEngine.open("policy.db")
    with engine.transaction():
        shop = engine.providers.add(Provider("shop"))
        lane = engine.sublayers.add(Sublayer("shop", weight=0x9000, provider=shop.key))
        engine.filters.add(Filter("no telnet", layer=Layer.ALE_AUTH_CONNECT_V4, action=ActionType.BLOCK,
                                  conditions=(match(Field.IP_REMOTE_PORT, 23),), sublayer=lane.key))
    engine.classify(Layer.ALE_AUTH_CONNECT_V4, {Field.IP_REMOTE_PORT: 23}).reason

The engine lives in this process.  Several processes may open one file: persistent objects are theirs together, all
others are each one's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final
from uuid import UUID

from ..clock import Clock
from ..entropy import Entropy
from .access import SecurityDescriptor, Token
from .callouts import CalloutFunction
from .changes import FlowWatch
from .engine import Core
from .enumeration import ContextTemplate, FilterTemplate, ObjectTemplate
from .errors import PolicyCode, error_for
from .explain import Explanation
from .identifiers import ZERO_GUID
from .layers import Layer
from .model import Callout, Filter, Provider, ProviderContext, Sublayer
from .session import Container, FlowFields, NetEvents, Session
from .verdicts import Verdict

__all__ = ["FilterEngine"]

# FWPM_SESSION0: "the default, 15 s"
TRANSACTION_WAIT_S: Final = 15.0


class FilterEngine:
    """An open engine and its first session; ``open`` makes one.  A context manager that closes it."""

    def __init__(self, core: Core, session: Session) -> None:
        self._core: Final = core
        self._session: Final = session
        self._sessions: Final[dict[UUID, Session]] = {session.key: session}

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] = ":memory:",
        *,
        dynamic: bool = False,
        transaction_wait_s: float | None = TRANSACTION_WAIT_S,
        owner: Token | None = None,
        disabled_services: Iterable[str] = (),
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> FilterEngine:
        """Open the policy of a file (made, for its owner alone, if there is none), or of memory.

        ``dynamic``: what the engine's own session adds lives as long as the engine.  ``transaction_wait_s``: how long a
        call waits for other transactions (None: for ever).  ``owner``: whose engine it is, by default the user of this
        process.  ``disabled_services``: persistent filters of providers with these service names sleep.
        Raises PolicyStoreError.
        """
        core = Core(path, owner=owner, disabled_services=frozenset(disabled_services), clock=clock, entropy=entropy)
        session = Session(core, core.owner, is_dynamic=dynamic, wait_s=transaction_wait_s, key=core.new_key())
        return cls(core, session)

    def open_session(
        self,
        *,
        user: Token | None = None,
        dynamic: bool = False,
        transaction_wait_s: float | None = TRANSACTION_WAIT_S,
        key: UUID = ZERO_GUID,
    ) -> Session:
        """Another session, of ``user`` (the engine's owner if none is given).

        Raises PolicyAccessDenied without the right OPEN, PolicyConflict (ALREADY_EXISTS) for a key that is open.
        """
        if key in self._sessions and self._sessions[key].is_open:
            raise error_for(PolicyCode.ALREADY_EXISTS, f"a session with the key {key} is open")
        chosen = self._core.new_key() if key == ZERO_GUID else key
        who = self._core.owner if user is None else user
        session = Session(self._core, who, is_dynamic=dynamic, wait_s=transaction_wait_s, key=chosen)
        self._sessions[chosen] = session
        return session

    @property
    def sessions(self) -> list[Session]:
        """The open sessions, the engine's own first."""
        for key in [key for key, session in self._sessions.items() if not session.is_open]:
            del self._sessions[key]
        return list(self._sessions.values())

    def refresh(self) -> bool:
        """Take over what other processes have committed to the file since; whether there was anything.

        A transaction that writes does so by itself; a classification does not.
        """
        return self._core.refresh(self._session.wait_s)

    def close(self) -> None:
        """Close all sessions and the file.  May be called again."""
        for session in reversed(self.sessions):
            session.close()
        self._core.close()

    def __enter__(self) -> FilterEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the engine's own session -----------------------------------------------------------------------------------

    @property
    def providers(self) -> Container[Provider, ObjectTemplate]:
        """Whose policy it is."""
        return self._session.providers

    @property
    def provider_contexts(self) -> Container[ProviderContext, ContextTemplate]:
        """Policies that filters and settings name."""
        return self._session.provider_contexts

    @property
    def sublayers(self) -> Container[Sublayer, ObjectTemplate]:
        """The sublayers of every layer."""
        return self._session.sublayers

    @property
    def callouts(self) -> Container[Callout, ObjectTemplate]:
        """What filters may ask."""
        return self._session.callouts

    @property
    def filters(self) -> Container[Filter, FilterTemplate]:
        """What happens to which traffic."""
        return self._session.filters

    @property
    def net_events(self) -> NetEvents:
        """What went wrong lately."""
        return self._session.net_events

    def transaction(self, *, read_only: bool = False) -> AbstractContextManager[None]:
        """All or nothing; see Session.transaction."""
        return self._session.transaction(read_only=read_only)

    def classify(self, layer: Layer | UUID | str, fields: FlowFields) -> Verdict:
        """What the committed policy says of a flow at a layer; see Session.classify."""
        return self._session.classify(layer, fields)

    def authorize(self, layer: Layer | UUID | str, fields: FlowFields) -> Verdict:
        """As ``classify``, and a block is recorded as a net event."""
        return self._session.authorize(layer, fields)

    def authorize_peer(self, layer: Layer | UUID | str, fields: FlowFields) -> Verdict:
        """As ``authorize``, of a flow whose peer is known; see Session.authorize_peer."""
        return self._session.authorize_peer(layer, fields)

    def names_peers(self, layer: Layer | UUID | str, fields: FlowFields) -> bool:
        """Whether some filter lets certain peers in there; see Session.names_peers."""
        return self._session.names_peers(layer, fields)

    def explain(self, layer: Layer | UUID | str, fields: FlowFields, *, with_misses: bool = False) -> Explanation:
        """Why; see Session.explain."""
        return self._session.explain(layer, fields, with_misses=with_misses)

    def watch(self, layer: Layer | UUID | str, fields: FlowFields) -> FlowWatch:
        """Something that tells when the verdict on a flow becomes another one."""
        return self._session.watch(layer, fields)

    def register_callout(self, key: UUID, function: CalloutFunction | None) -> None:
        """Say what a callout does; see Session.register_callout."""
        self._session.register_callout(key, function)

    def security(self) -> SecurityDescriptor:
        """The descriptor of the engine."""
        return self._session.security()

    def set_security(self, security: SecurityDescriptor) -> None:
        """Give the engine another descriptor."""
        self._session.set_security(security)
