"""Mixing post-quantum preshared keys into an IKE_SA's keys: who offers, who decides, what is said (RFC 8784).

The initiator chooses the key by whom it expects, the responder looks it up by its id and by who the initiator says to
be.  Only SK_d, SK_pi and SK_pr change, once, at the IKE_AUTH that holds the initiator's AUTH; rekeys inherit it
through SK_d alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from ...crypto.kdf import IkeKeys, mix_ppk
from ...errors import AuthenticationFailed, WireError
from ...identity.names import IkeId, PeerTargetName, principal_name
from ...identity.ppk import Ppk
from ...wire.ikev2.payloads import Authentication, Identification, Notify, Payload
from ...wire.numbers import NotifyType
from ..contract import KeyingConfig
from .beginning import Beginning
from .core import find, notifies
from .ike_sa import IkeSa

__all__ = ["USE_PPK", "Settled", "judged_keys", "keys_of_reply", "our_ppk", "proof_payloads", "responder_action"]

USE_PPK: Final = Notify(NotifyType.USE_PPK)
FIXED: Final = b"\x02"
"""PPK_ID_FIXED (5.1), the one type whose meaning is defined."""

Action: TypeAlias = Literal["standard", "abort", "use"]


def our_ppk(config: KeyingConfig) -> Ppk | None:
    """The initiator's choice: the first that is shared with whom it expects."""
    expected = config.expected_peer
    name = expected.principal if isinstance(expected, PeerTargetName) else None
    return next((each for each in config.ppks if each.is_for(name)), None)


def proof_payloads(sa: IkeSa, beginning: Beginning, prove: Callable[[IkeKeys], Authentication]) -> tuple[Payload, ...]:
    """The initiator's AUTH, computed by ``prove`` over these keys, and what it says of a PPK beside it.

    Optional keys are proven twice: NO_PPK_AUTH is for a responder that has not this one.
    """
    ppk = beginning.ppk
    if ppk is None:
        return (prove(sa.keys),)
    identity = Notify(NotifyType.PPK_IDENTITY, FIXED + ppk.id)
    auth = prove(_mixed(sa, ppk))
    if ppk.mandatory:
        return auth, identity
    return auth, identity, Notify(NotifyType.NO_PPK_AUTH, prove(sa.keys).data)


def keys_of_reply(sa: IkeSa, beginning: Beginning, payloads: Sequence[Payload]) -> IkeKeys:
    """The keys that the responder's AUTH is to be held against; AuthenticationFailed where a mandatory PPK is not in
    them."""
    ppk = beginning.ppk
    if ppk is None:
        return sa.keys
    if NotifyType.PPK_IDENTITY in notifies(payloads):  # its content MUST be ignored
        return _mixed(sa, ppk)
    if ppk.mandatory:
        raise AuthenticationFailed("the responder does not use the PPK that is mandatory with it", reason="ppk")
    return sa.keys


class Settled(NamedTuple):
    """The responder's decision: the keys that AUTH is over, the initiator's AUTH, and what the reply says."""

    keys: IkeKeys
    auth: Authentication
    reply: tuple[Payload, ...]


def responder_action(received_use_ppk: bool, received_no_ppk_auth: bool, configured: bool, mandatory: bool) -> Action:
    """Table 1 of RFC 8784 3, row by row."""
    if not received_use_ppk:
        return "abort" if configured and mandatory else "standard"
    if configured:
        return "use"
    return "abort" if mandatory or not received_no_ppk_auth else "standard"


def judged_keys(
    config: KeyingConfig, sa: IkeSa, beginning: Beginning, payloads: Sequence[Payload], peer_id: Identification
) -> Settled:
    """What the responder makes of the initiator's AUTH and PPK_IDENTITY; AuthenticationFailed."""
    auth = find(payloads, Authentication)
    if auth is None:
        raise AuthenticationFailed("the peer sent no AUTH payload: it proved nothing")
    try:
        name: str | None = principal_name(IkeId(peer_id.id_type, peer_id.data))
    except WireError:
        name = None
    known = [each for each in config.ppks if each.is_for(name)]
    found = notifies(payloads)
    wanted, without = found.get(NotifyType.PPK_IDENTITY), found.get(NotifyType.NO_PPK_AUTH)
    if beginning.ppk_agreed:
        if wanted is None:
            raise AuthenticationFailed("the peer agreed to use a PPK and then named none (RFC 8784 3)", reason="ppk")
        chosen = next((each for each in known if FIXED + each.id == wanted.data), None)
        configured = chosen is not None
    else:
        chosen, configured = None, bool(known)
    mandatory = any(each.mandatory for each in known)
    action = responder_action(beginning.ppk_agreed, without is not None, configured, mandatory)
    if action == "abort":
        raise AuthenticationFailed(
            "the peer does not use a PPK that this end has, and one is mandatory with it, or it cannot do without: "
            "give both ends the same Ppk(id, secret)",
            reason="ppk",
        )
    if action == "use" and chosen is not None:
        return Settled(_mixed(sa, chosen), auth, (Notify(NotifyType.PPK_IDENTITY),))
    if beginning.ppk_agreed and without is not None:
        auth = Authentication(auth.method, without.data)  # the method is AUTH's, the data was made without a PPK
    return Settled(sa.keys, auth, ())


def _mixed(sa: IkeSa, ppk: Ppk) -> IkeKeys:
    return mix_ppk(sa.suite.prf, sa.keys, ppk.secret.reveal())
