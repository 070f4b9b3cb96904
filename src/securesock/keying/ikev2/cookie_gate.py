"""The door before a session exists: an IKE_SA_INIT without a valid cookie is answered and forgotten (RFC 7296 2.6).

For a responder on datagrams that has too many half-open IKE_SAs.  Nothing is stored for whoever has not shown that it
receives at its address.
"""

from __future__ import annotations

from ...errors import WireError
from ...wire.ikev2.message import parse_message_untrusted, write_message
from ...wire.ikev2.payloads import Nonce, Notify
from ...wire.numbers import HeaderFlag, NotifyType
from ..cookies import CookieJar
from .core import BEGINNINGS, NONCE_LENGTHS, find

__all__ = ["ask_for_cookie_untrusted"]


def ask_for_cookie_untrusted(datagram: bytes, jar: CookieJar, address: tuple[str, int], now: float) -> bytes | None:
    """The answer that asks for a cookie, or None when the request holds the right one and may go on.

    ``address`` is where it came from.  WireError when this is no IKE_SA_INIT request at all: to be dropped and counted.
    """
    message = parse_message_untrusted(datagram)
    header = message.header
    nonce = find(message.payloads, Nonce)
    if header.exchange_type not in BEGINNINGS or header.flags & HeaderFlag.RESPONSE or nonce is None:
        raise WireError("not an IKE_SA_INIT request")
    if len(nonce.data) not in NONCE_LENGTHS:
        raise WireError("a nonce of an IKE_SA_INIT request is 16 to 256 bytes")
    first = message.payloads[0]
    returned = first.data if isinstance(first, Notify) and first.notify_type == NotifyType.COOKIE else b""
    if jar.accepts(returned, nonce.data, header.initiator_spi, address, now):
        return None
    cookie = jar.bake(nonce.data, header.initiator_spi, address, now)
    # RFC 7296 2.6: responder's SPI zero, COOKIE alone
    payloads = (Notify(NotifyType.COOKIE, cookie),)
    return write_message(
        header.initiator_spi, bytes(8), header.exchange_type, HeaderFlag.RESPONSE, header.message_id, payloads
    )
