"""MOBIKE (RFC 4555): the SAs of a session live on when one of its ends has another address.

The initiator of the first IKE_SA decides which addresses are used; the responder follows an explicit, authenticated
UPDATE_SA_ADDRESSES, and moves ESP only when the peer has shown that it receives at the new address (COOKIE2, 3.7).  A
responder whose own address changes says so, and the initiator moves.  ESP goes in UDP always, so that NATs are allowed
unless the configuration forbids them (3.9).

It knows addresses as values: that ours has changed it is told, and where a message came from.  It must not know what
carries messages.
"""

from __future__ import annotations

import hmac
import ipaddress
import struct
from collections.abc import Iterable
from functools import partial
from typing import Final

from ...errors import PeerIncompatible, PeerMisbehaved
from ...types import Address
from ...wire.ikev2.payloads import Notify, Payload
from ...wire.numbers import ExchangeType, NotifyType, name_of
from ..contract import AddressPair, Moved
from .core import Core, Opened, error_notify, notifies
from .goodbye import begin_delete
from .ike_sa import IkeSa
from .selectors import canonical_host, nat_detection, translated

__all__ = [
    "announce",
    "answer_mobility",
    "change_path",
    "follow",
    "hear_announcement",
    "hear_liveness",
    "is_nat_unexpected",
    "liveness_payloads",
    "try_another_address",
]

COOKIE2_LENGTH: Final = 32
COOKIE2_LENGTHS: Final = range(8, 65)
"""RFC 4555 4.2.5: 8 to 64 bytes."""

MAX_ADDITIONAL: Final = 16
"""Addresses of a peer that are kept: more than a host's interfaces, and nobody makes us keep a list without end."""

MAX_NAT_RETRIES: Final = 12
"""RFC 4555 3.9: as often as a request is sent again (message_window), so that who alters one packet changes nothing."""

_CHANGES: Final = (
    NotifyType.UPDATE_SA_ADDRESSES,
    NotifyType.ADDITIONAL_IP4_ADDRESS,
    NotifyType.ADDITIONAL_IP6_ADDRESS,
    NotifyType.NO_ADDITIONAL_ADDRESSES,
)


# IKE_AUTH


def announce(core: Core) -> tuple[Payload, ...]:
    """What the IKE_AUTH message that holds the SA payload says of MOBIKE (RFC 4555 3.2, 3.4)."""
    config = core.config
    if not config.mobike:
        return ()
    own = tuple(_additional(host) for host in config.additional_hosts)
    forbids = core.we_are_initiator and not config.nats_allowed
    return (Notify(NotifyType.MOBIKE_SUPPORTED), *own, *((_no_nats(core.mobility.path),) if forbids else ()))


def hear_announcement(core: Core, payloads: Iterable[Payload]) -> tuple[Payload, ...]:
    """The same of the peer's message; what a responder answers to it."""
    payloads = tuple(payloads)
    if not core.config.mobike or NotifyType.MOBIKE_SUPPORTED not in notifies(payloads):
        return ()
    core.mobility.enabled = True
    core.mobility.peer_hosts = _hosts(payloads)
    return announce(core)


def is_nat_unexpected(core: Core, payloads: Iterable[Payload]) -> bool:
    """Whether the first IKE_AUTH request forbids NATs and came through one (RFC 4555 3.9)."""
    found = notifies(payloads).get(NotifyType.NO_NATS_ALLOWED)
    return core.config.mobike and found is not None and not _is_as_sent(found, core.mobility.path)


def _additional(host: str) -> Notify:
    packed = ipaddress.ip_address(canonical_host(host)).packed
    of_ipv4 = len(packed) == 4
    return Notify(NotifyType.ADDITIONAL_IP4_ADDRESS if of_ipv4 else NotifyType.ADDITIONAL_IP6_ADDRESS, packed)


def _hosts(payloads: Iterable[Payload]) -> tuple[str, ...]:
    lengths: dict[int, int] = {NotifyType.ADDITIONAL_IP4_ADDRESS: 4, NotifyType.ADDITIONAL_IP6_ADDRESS: 16}
    hosts = [
        str(ipaddress.ip_address(each.data))
        for each in payloads
        if isinstance(each, Notify) and len(each.data) == lengths.get(each.notify_type, -1)
    ]
    return tuple(hosts[:MAX_ADDITIONAL])


def _no_nats(path: AddressPair) -> Notify:
    """RFC 4555 4.2.6: the addresses and ports that the packet was sent from and to."""
    hosts = [ipaddress.ip_address(canonical_host(each[0])).packed for each in (path.our, path.peer)]
    return Notify(NotifyType.NO_NATS_ALLOWED, b"".join(hosts) + struct.pack(">HH", path.our[1], path.peer[1]))


def _is_as_sent(notify: Notify, path: AddressPair) -> bool:
    return notify.data == _no_nats(AddressPair(path.peer, path.our)).data


def _end(address: Address) -> tuple[str, int]:
    return canonical_host(address[0]), address[1]


def _same(one: AddressPair, other: AddressPair) -> bool:
    return _end(one.our) == _end(other.our) and _end(one.peer) == _end(other.peer)


# the initiator, and a responder whose own address changed


def change_path(core: Core, path: AddressPair, now: float) -> bool:
    """Our address is another one, or the peer is to be reached at another one; whether the peer can follow.

    ESP moves at once where the peer's address stays, since that one was shown to be its; else with its answer (3.7).
    """
    mobility = core.mobility
    if not mobility.enabled or core.ike is None or not core.established:
        return False
    if _same(path, mobility.path):
        return True
    mobility.path, mobility.chosen = path, True
    core.trace("path-changed", f"{path.our[0]} to {path.peer[0]}")
    if _end(path.peer) == _end(mobility.used.peer):
        mobility.used = path
        core.emit(Moved(path, None))
    # RFC 4555 3.5: what is outstanding goes on from the new address
    core.send(core.ike.window.outstanding)
    mobility.unexpected_nats = 0
    _update_when_free(core)
    return True


def _update_when_free(core: Core) -> None:
    if not core.mobility.pending:
        core.mobility.pending = True
        core.tasks.append(partial(_begin_update, core))


def _begin_update(core: Core, now: float) -> None:
    sa, mobility = core.ike, core.mobility
    mobility.pending = False
    if sa is None:
        return
    mobility.asked = mobility.path
    cookie = Notify(NotifyType.COOKIE2, core.entropy.token(COOKIE2_LENGTH))
    payloads: list[Payload] = []
    if core.we_are_initiator:
        payloads += (Notify(NotifyType.UPDATE_SA_ADDRESSES), *_nat_detection(core, sa, mobility.path))
    else:
        # RFC 4555 3.6: the list as it is now; the address in the IP header is not part of it
        others = [_additional(host) for host in core.config.additional_hosts if host != mobility.path.our[0]]
        payloads += others or [Notify(NotifyType.NO_ADDITIONAL_ADDRESSES)]
    if not core.config.nats_allowed:
        payloads.append(_no_nats(mobility.path))
    payloads.append(cookie)
    core.request(sa, ExchangeType.INFORMATIONAL, tuple(payloads), ExpectUpdateReply(core, sa, cookie), now)


def _nat_detection(core: Core, sa: IkeSa, path: AddressPair) -> tuple[Notify, Notify]:
    return nat_detection(sa.initiator_spi, sa.responder_spi, path.our, path.peer, core.source_of_nobody)


class ExpectUpdateReply:
    """Told the peer of other addresses; its answer shows that it receives at its own."""

    def __init__(self, core: Core, sa: IkeSa, cookie: Notify) -> None:
        self._core = core
        self._sa = sa
        self._cookie = cookie

    def handle_reply(self, opened: Opened, now: float) -> None:
        """The addresses stand, or the peer will not have them."""
        core, mobility = self._core, self._core.mobility
        self._sa.window.reply_received()
        _check_cookie(opened, self._cookie)
        asked, mobility.asked = mobility.asked, None
        if asked is None or not _same(asked, mobility.path):
            return  # RFC 4555 3.5: another change came meanwhile, and is told next
        refused = error_notify(opened.payloads)
        if refused is None:
            _note_seen_as(core, self._sa, opened)
            if core.we_are_initiator:
                mobility.used = mobility.path
                mobility.tried = ()
                core.emit(Moved(mobility.path, _translated(self._sa, opened, mobility.path)))
        elif refused.notify_type == NotifyType.UNEXPECTED_NAT_DETECTED:
            self._try_again()
        else:
            core.trace("addresses-refused", name_of(NotifyType, refused.notify_type))
            if try_another_address(core, now):
                return
            # RFC 4555 3.5: go on with the addresses that were used, or, where ours is gone, end it
            if _same(mobility.path, mobility.used):
                begin_delete(core, now, "the peer will not have our new address")
            mobility.path = mobility.used

    def abandon(self, now: float) -> None:
        """The peer has to know: once more, under the next IKE_SA."""
        _update_when_free(self._core)

    def _try_again(self) -> None:
        core, mobility = self._core, self._core.mobility
        core.trace("unexpected-nat")
        mobility.unexpected_nats += 1
        if mobility.unexpected_nats < MAX_NAT_RETRIES:
            _update_when_free(core)
        else:
            raise PeerIncompatible("somebody between the ends rewrites addresses, and policy forbids NATs")


def try_another_address(core: Core, now: float) -> bool:
    """The peer does not answer where it was, or will not be there: whether it told us of another address to try."""
    mobility = core.mobility
    if not mobility.enabled or not core.we_are_initiator:
        return False
    mobility.tried = (*mobility.tried, canonical_host(mobility.path.peer[0]))[-MAX_ADDITIONAL:]
    family = ipaddress.ip_address(canonical_host(mobility.path.our[0])).version
    fit = (
        host
        for host in mobility.peer_hosts
        if host not in mobility.tried and ipaddress.ip_address(host).version == family
    )
    host = next(fit, None)
    if host is None:
        return False
    old = mobility.path.peer
    as_ours = f"::ffff:{host}" if ":" in old[0] and "." in host else host  # as an AF_INET6 socket writes it
    peer = (as_ours, old[1]) if len(old) == 2 else (as_ours, old[1], 0, 0)
    return change_path(core, AddressPair(mobility.path.our, peer), now)


# the other end's requests


def answer_mobility(core: Core, sa: IkeSa, opened: Opened) -> tuple[tuple[Payload, ...], AddressPair | None]:
    """What an INFORMATIONAL reply says of addresses, and where the peer wants to be spoken to from now on, if it may.

    Nothing is followed yet: that is ``follow``'s, after the reply.
    """
    found = notifies(opened.payloads)
    cookie = found.get(NotifyType.COOKIE2)
    # RFC 4555 3.7: copied as it is, whatever else the request holds
    echo: tuple[Payload, ...] = ()
    if cookie is not None and len(cookie.data) in COOKIE2_LENGTHS:
        echo = (Notify(NotifyType.COOKIE2, cookie.data),)
    mobility = core.mobility
    if not mobility.enabled:
        return echo, None
    path = opened.path or mobility.path
    no_nats = found.get(NotifyType.NO_NATS_ALLOWED)
    changes = [each for each in _CHANGES if each in found]
    if changes and no_nats is not None and not _is_as_sent(no_nats, path):
        core.trace("unexpected-nat")
        return (Notify(NotifyType.UNEXPECTED_NAT_DETECTED), *echo), None
    update = NotifyType.UPDATE_SA_ADDRESSES in found and not core.we_are_initiator
    if update and not _is_acceptable(core, path.peer):
        core.trace("unacceptable-addresses", path.peer[0])
        return (Notify(NotifyType.UNACCEPTABLE_ADDRESSES), *echo), None
    moved: AddressPair | None = path if update else None
    if changes != [NotifyType.UPDATE_SA_ADDRESSES] and changes:
        mobility.peer_hosts = _hosts(opened.payloads)
        # RFC 4555 3.5: the initiator looks at its choice again when the address in use is no longer among them
        announced = {*mobility.peer_hosts, canonical_host(path.peer[0])}
        if core.we_are_initiator and canonical_host(mobility.path.peer[0]) not in announced:
            moved = path
    detects = NotifyType.NAT_DETECTION_SOURCE_IP in found or NotifyType.NAT_DETECTION_DESTINATION_IP in found
    detection = _nat_detection(core, sa, path) if detects else ()
    return (*detection, *echo), moved


def _is_acceptable(core: Core, peer: Address) -> bool:
    """A host's address, in one of the networks where the peer may be."""
    address = ipaddress.ip_address(canonical_host(peer[0]))
    if address.is_unspecified or address.is_multicast or not peer[1]:
        return False
    networks = core.config.peer_networks
    return not networks or any(address in ipaddress.ip_network(each) for each in networks)


def follow(core: Core, sa: IkeSa, opened: Opened, path: AddressPair, now: float) -> None:
    """Go where ``answer_mobility`` said: the initiator by an update of its own, the responder after a check."""
    if core.we_are_initiator:
        change_path(core, path, now)
        return
    mobility = core.mobility
    stays = _end(path.peer) == _end(mobility.used.peer)
    mobility.path, mobility.chosen = path, True
    is_translated = _translated(sa, opened, path)
    if stays:
        mobility.used = path
        core.emit(Moved(path, is_translated))
    else:
        core.send(sa.window.outstanding)
        core.tasks.append(partial(_begin_return_check, core, path, is_translated))


def _begin_return_check(core: Core, path: AddressPair, is_translated: bool | None, now: float) -> None:
    """RFC 4555 3.7: nobody is sent traffic who has not shown that it receives there."""
    sa = core.ike
    if sa is not None and _same(path, core.mobility.path):
        cookie = Notify(NotifyType.COOKIE2, core.entropy.token(COOKIE2_LENGTH))
        awaiting = ExpectReturnReply(core, sa, cookie, path, is_translated)
        core.request(sa, ExchangeType.INFORMATIONAL, (cookie,), awaiting, now)


class ExpectReturnReply:
    """Asked at the new address whether the peer is there."""

    def __init__(self, core: Core, sa: IkeSa, cookie: Notify, path: AddressPair, is_translated: bool | None) -> None:
        self._core = core
        self._sa = sa
        self._cookie = cookie
        self._path = path
        self._is_translated = is_translated

    def handle_reply(self, opened: Opened, now: float) -> None:
        """It is: ESP goes there from now on."""
        core = self._core
        self._sa.window.reply_received()
        _check_cookie(opened, self._cookie)
        # RFC 4555 3.7: sent to several addresses, it would not say which of them works
        if _same(self._path, core.mobility.path):
            core.mobility.used = self._path
            core.emit(Moved(self._path, self._is_translated))

    def abandon(self, now: float) -> None:
        """The peer has not shown that it is there: asked once more, under the next IKE_SA."""
        self._core.tasks.append(partial(_begin_return_check, self._core, self._path, self._is_translated))


def _check_cookie(opened: Opened, cookie: Notify) -> None:
    """RFC 4555 3.7: another value than the one sent closes the IKE_SA."""
    returned = notifies(opened.payloads).get(NotifyType.COOKIE2)
    if returned is None or not hmac.compare_digest(returned.data, cookie.data):
        raise PeerMisbehaved("the peer's answer does not hold the cookie that was sent to its new address")


def _translated(sa: IkeSa, opened: Opened, path: AddressPair) -> bool | None:
    """Whether addresses are rewritten on the new path; None where the message does not say."""
    found = [each for each in opened.payloads if isinstance(each, Notify)]
    if not any(each.notify_type == NotifyType.NAT_DETECTION_DESTINATION_IP for each in found):
        return None
    return translated(found, sa.initiator_spi, sa.responder_spi, path.our, path.peer)


# what a translator on the way does to us


def liveness_payloads(core: Core, sa: IkeSa) -> tuple[Payload, ...]:
    """What a question for a sign of life also asks: as whom does the peer see us (RFC 4555 3.8)."""
    if core.mobility.enabled and core.we_are_initiator:
        return _nat_detection(core, sa, core.mobility.path)
    return ()


def hear_liveness(core: Core, sa: IkeSa, opened: Opened) -> None:
    """The peer sees us elsewhere than before: a translator forgot us, and the peer is told again."""
    if not core.mobility.enabled or not core.we_are_initiator:
        return
    before = core.mobility.seen_as
    _note_seen_as(core, sa, opened)
    after = core.mobility.seen_as
    # the hash is over the SPIs too: only under the same ones does another one mean another address
    if before is not None and after is not None and before[0] == after[0] and before[1] != after[1]:
        core.trace("seen-elsewhere")
        _update_when_free(core)


def _note_seen_as(core: Core, sa: IkeSa, opened: Opened) -> None:
    found = notifies(opened.payloads).get(NotifyType.NAT_DETECTION_DESTINATION_IP)
    if found is not None:
        core.mobility.seen_as = (sa.initiator_spi + sa.responder_spi, found.data)
