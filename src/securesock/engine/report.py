"""What was asked and what was applied, side by side: SecurityInfo for a live or failed connection.

It must not know sockets nor machines: it is handed what was established and what happened since.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from ..clock import utc_at
from ..errors import PolicyRefused
from ..identity.names import parse_peer_target_name
from ..policy.negotiation import UNMARKED
from ..types import ANY_TRUSTED_PEER, Address, SecurityInfo, SecuritySettings

if TYPE_CHECKING:
    from ..keying.contract import Establishment
    from .applied import Applied
    from .asking import ExpectedPeer
    from .context import SecurityContext
    from .ports import PeerReport
    from .socket_policy import SocketPolicy

__all__ = ["Asked", "clear_info", "datagram_info", "failed_info", "live_info", "secured_info"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the application said: its settings, whom it expects (None: the accepting side), and the context.

    ``policy``: the socket's part in the filtering platform, None where there is none; ``applied``: what that made of
    one flow, once it was judged.
    """

    settings: SecuritySettings
    expected: ExpectedPeer | None
    context: SecurityContext
    policy: SocketPolicy | None = None
    applied: Applied | None = None

    @property
    def may_be_clear(self) -> bool:
        """Whether clear text is allowed, by the application and by policy."""
        return (self.settings if self.applied is None else self.applied.settings).allow_insecure


def secured_info(asked: Asked, establishment: Establishment, plane: str, established_at: datetime) -> SecurityInfo:
    """For a connection that was just established."""
    peer = establishment.peer
    ike, esp, flow = establishment.main_mode_suite, establishment.quick_mode_suite, establishment.flow
    exchanges = (ike.key_exchange, *ike.additional_key_exchanges)
    mark = UNMARKED if asked.applied is None else asked.applied.mark
    return SecurityInfo(
        secured=True,
        encrypted=esp.encrypted,
        impersonated=peer.kind == "user",
        peer_machine=peer if peer.kind == "machine" else None,
        peer_user=peer if peer.kind == "user" else None,
        plane=plane,
        keying=establishment.keying,
        main_mode_suite=ike.name,
        quick_mode_suite=esp.name,
        main_mode_sa_id=establishment.main_mode_sa_id,
        quick_mode_sa_id=establishment.quick_mode_sa_id,
        main_mode_policy=mark.main_mode_policy,
        quick_mode_policy=mark.quick_mode_policy,
        filter_id=mark.filter_id,
        asked=asked.settings,
        requested_address=(flow.responder_host, flow.responder_port),
        inner_address=_inner_address(establishment),
        key_exchange="+".join((*(each.name for each in exchanges), *(("PPK",) if establishment.uses_ppk else ()))),
        differences=tuple(_differences(asked, establishment)),
        established_at=established_at,
    )


def _inner_address(establishment: Establishment) -> Address | None:
    """Ours, in a tunnel."""
    scope = establishment.scope
    if scope is None or scope.mode != "tunnel":
        return None
    return str(ipaddress.ip_address(scope.our_hosts[0])), scope.our_port


def live_info(
    established: SecurityInfo,
    *,
    main_mode_sa_id: int,
    quick_mode_sa_id: int,
    rekeys: int,
    error: BaseException | None,
) -> SecurityInfo:
    """The same, as it stands now; while nothing has happened since, the very same."""
    if (
        error is None
        and quick_mode_sa_id == established.quick_mode_sa_id
        and main_mode_sa_id == established.main_mode_sa_id
        and rekeys == established.rekeys
    ):
        return established
    return replace(
        established,
        main_mode_sa_id=main_mode_sa_id,
        quick_mode_sa_id=quick_mode_sa_id,
        rekeys=rekeys,
        latch="established" if error is None else "broken",
        negotiation_error="" if error is None else str(error),
    )


def datagram_info(asked: Asked, report: PeerReport, plane: str, wall_offset_s: float) -> SecurityInfo | None:
    """For one address of a datagram socket; None where there is nothing to tell."""
    if report.why_clear:
        return clear_info(asked, report.why_clear)
    if report.error is not None:
        return failed_info(asked, report.error)
    if report.establishment is None:
        return None
    if report.we_began:
        named = parse_peer_target_name(report.establishment.peer.name)
        asked = replace(asked, expected=ANY_TRUSTED_PEER if report.any_trusted else named)
    established = secured_info(asked, report.establishment, plane, utc_at(report.established_at, wall_offset_s))
    return live_info(
        established,
        main_mode_sa_id=report.main_mode_sa_id,
        quick_mode_sa_id=report.quick_mode_sa_id,
        rekeys=report.rekeys,
        error=None,
    )


def clear_info(asked: Asked, why: str) -> SecurityInfo:
    """For a connection in clear, which allow_insecure permitted; ``why`` completes "because ..."."""
    applied = asked.applied
    return SecurityInfo(
        asked=asked.settings,
        negotiation_error=why,
        filter_id=None if applied is None else applied.mark.filter_id,
        differences=(
            f"asked for IPsec, applied clear text, because {why}",
            *(() if applied is None else applied.differences),
        ),
    )


def failed_info(asked: Asked, error: BaseException) -> SecurityInfo:
    """For a negotiation that failed: nothing was applied, and why, and which filter forbade it."""
    forbidden_by = error.filter_id if isinstance(error, PolicyRefused) else None
    return SecurityInfo(asked=asked.settings, negotiation_error=str(error), latch="broken", filter_id=forbidden_by)


def _differences(asked: Asked, establishment: Establishment) -> list[str]:
    found: list[str] = [] if asked.applied is None else list(asked.applied.differences)
    if asked.expected is ANY_TRUSTED_PEER:
        found.append(
            f"asked for no peer target name, applied {establishment.peer.name}, "
            "because any machine of the trust anchors was accepted"
        )
    if establishment.resumed is not None:
        found.append(
            "asked for a key exchange, applied the keys of a session that was lost, because of resumption=True"
        )
    if not establishment.quick_mode_suite.encrypted:
        found.append("asked for IPsec, applied integrity without encryption, because the policy in force prefers it")
    if asked.context.key_exchange == "hybrid" and _offers_hybrid(asked):
        suite = establishment.main_mode_suite
        if not suite.additional_key_exchanges:
            found.append(
                f"asked for a hybrid key exchange, applied {suite.key_exchange.name} alone, because the peer chose it"
            )
    if asked.context.ppks and not establishment.uses_ppk:
        found.append("asked for a PPK, applied none, because the two ends have no PPK for each other")
    if establishment.translated and asked.expected is None:
        flow = establishment.flow
        found.append(
            f"the peer asked for {flow.responder_host} port {flow.responder_port}, applied this socket's own address, "
            "because addresses are translated between the ends"
        )
    return found


def _offers_hybrid(asked: Asked) -> bool:
    main_mode = asked.context.main_mode if asked.applied is None else asked.applied.main_mode
    return any(offer.additional for offer in main_mode.offers)
