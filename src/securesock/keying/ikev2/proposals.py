"""Policies into SA payloads, and an SA payload into the one suite that both ends can agree on.

RFC 7296 2.7 and 3.3: proposals are alternatives, transforms of one type inside a proposal are alternatives, and the
answer holds exactly one transform of each type.  RFC 9370 2.2.2 adds ADDKE1..7, whose absence means NONE.
Knows policies and wire values; nothing of messages, keys or state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from ...crypto import suites
from ...crypto.suites import EspSuite, IkeSuite, KeyExchangeMethod
from ...policy.negotiation import ChildOffer, IkeOffer
from ...wire.ikev2.payloads import Proposal, SecurityAssociation, Transform
from ...wire.numbers import IntegrityId, KeyExchangeId, ProtocolId, SequenceNumbersId, TransformType

__all__ = [
    "accept_child",
    "accept_ike",
    "chosen_child",
    "chosen_ike",
    "find_same",
    "latched_child_proposal",
    "latched_ike_proposal",
    "offer_child",
    "offer_ike",
    "same_transforms",
]

_ADDITIONAL = tuple(range(TransformType.ADDKE1, TransformType.ADDKE7 + 1))
_KEY_EXCHANGE_TYPES: tuple[int, ...] = (TransformType.KE, *_ADDITIONAL)
_IKE_TYPES: frozenset[int] = frozenset(
    {TransformType.ENCR, TransformType.PRF, TransformType.INTEG, *_KEY_EXCHANGE_TYPES}
)
_ESP_TYPES: frozenset[int] = frozenset(
    {TransformType.ENCR, TransformType.INTEG, TransformType.SN, *_KEY_EXCHANGE_TYPES}
)


@lru_cache(maxsize=64)
def _esp_suite(encryption: suites.Encryption, integrity: suites.Integrity | None, esn: bool) -> EspSuite:
    """One object for all SAs of one suite: idle ones may be very many."""
    return EspSuite(encryption, integrity, esn=esn)


def _encryption(encryption: suites.Encryption) -> Transform:
    return Transform(TransformType.ENCR, encryption.transform_id, encryption.key_bits)


def _methods(
    key_exchanges: Iterable[KeyExchangeMethod], additional: Sequence[KeyExchangeMethod]
) -> Iterator[Transform]:
    for method in key_exchanges:
        yield Transform(TransformType.KE, method.transform_id)
    for kind, method in zip(_ADDITIONAL, additional, strict=False):
        yield Transform(kind, method.transform_id)


def _ike_transforms(offer: IkeOffer) -> tuple[Transform, ...]:
    return (
        *(_encryption(each) for each in offer.encryptions),
        *(Transform(TransformType.PRF, each.transform_id) for each in offer.prfs),
        *(Transform(TransformType.INTEG, each.transform_id) for each in offer.integrities),
        *_methods(offer.key_exchanges, offer.additional),
    )


@lru_cache(maxsize=64)
def _child_transforms(offer: ChildOffer) -> tuple[Transform, ...]:
    return (
        *(_encryption(each) for each in offer.encryptions),
        *(Transform(TransformType.INTEG, each.transform_id) for each in offer.integrities),
        *(Transform(TransformType.SN, int(each)) for each in offer.esn),
    )


@lru_cache(maxsize=64)
def offer_ike(offers: tuple[IkeOffer, ...]) -> SecurityAssociation:
    """The SA payload of IKE_SA_INIT, which has no SPIs (RFC 7296 3.3.1)."""
    return SecurityAssociation(
        tuple(Proposal(number, ProtocolId.IKE, b"", _ike_transforms(offer)) for number, offer in enumerate(offers, 1))
    )


def offer_child(offers: tuple[ChildOffer, ...], spi: bytes) -> SecurityAssociation:
    """The SA payload of a CHILD_SA made in IKE_AUTH: no key exchange (RFC 7296 1.2)."""
    return SecurityAssociation(
        tuple(Proposal(number, ProtocolId.ESP, spi, _child_transforms(offer)) for number, offer in enumerate(offers, 1))
    )


def latched_ike_proposal(suite: IkeSuite, spi: bytes) -> Proposal:
    """The one proposal of an IKE_SA rekey: what was latched and nothing else."""
    integrity = () if suite.integrity is None else (suite.integrity,)
    additional = suite.additional_key_exchanges
    offer = IkeOffer((suite.encryption,), integrity, (suite.prf,), (suite.key_exchange,), additional)
    return Proposal(1, ProtocolId.IKE, spi, _ike_transforms(offer))


def latched_child_proposal(suite: EspSuite, spi: bytes) -> Proposal:
    """The one proposal of a CHILD_SA, with the key exchanges of ``suite`` when it has any (RFC 7296 1.3.1)."""
    integrity = () if suite.integrity is None else (suite.integrity,)
    transforms = _child_transforms(ChildOffer((suite.encryption,), integrity, (suite.esn,)))
    if suite.key_exchange is not None:
        transforms += (*_methods((suite.key_exchange,), suite.additional_key_exchanges),)
    return Proposal(1, ProtocolId.ESP, spi, transforms)


class _Choice:
    """The transforms of one peer proposal, by type, as sets of (id, key bits)."""

    __slots__ = ("known", "offered")

    def __init__(self, proposal: Proposal, known: frozenset[int]) -> None:
        self.offered: dict[int, set[tuple[int, int | None]]] = {}
        for transform in proposal.transforms:
            # RFC 7296 3.3.6: a transform with an attribute that we do not understand never matches
            usable = self.offered.setdefault(transform.transform_type, set())
            if not transform.attributes:
                usable.add((transform.transform_id, transform.key_bits))
        # RFC 7296 3.3.6: an unknown transform type makes the whole proposal unacceptable
        self.known = self.offered.keys() <= known

    def has(self, kind: int, number: int, key_bits: int | None = None) -> bool:
        return (number, key_bits) in self.offered.get(kind, ())

    def optional(self, kind: int, none: int) -> bool:
        """Whether NONE may be chosen: the type is absent, or NONE is among the alternatives."""
        return kind not in self.offered or self.has(kind, none)

    def encryption(self, wanted: Iterable[suites.Encryption]) -> suites.Encryption | None:
        return next((each for each in wanted if self.has(TransformType.ENCR, each.transform_id, each.key_bits)), None)

    def integrity(
        self, encryption: suites.Encryption, wanted: Iterable[suites.Integrity]
    ) -> tuple[bool, suites.Integrity | None]:
        if encryption.is_aead:
            return self.optional(TransformType.INTEG, IntegrityId.NONE), None
        found = next((each for each in wanted if self.has(TransformType.INTEG, each.transform_id)), None)
        return found is not None, found

    def additional(self, wanted: Sequence[KeyExchangeMethod]) -> bool:
        """Whether exactly ``wanted`` may be chosen for ADDKE1..7, NONE for the rest."""
        for position, kind in enumerate(_ADDITIONAL):
            if position < len(wanted):
                if not self.has(kind, wanted[position].transform_id):
                    return False
            elif not self.optional(kind, KeyExchangeId.NONE):
                return False
        return True


def accept_ike(
    offers: tuple[IkeOffer, ...], proposals: Sequence[Proposal], *, peer_group: int, intermediate: bool
) -> tuple[Proposal, IkeSuite] | None:
    """The best of our offers that one of the peer's proposals allows, or None.

    ``peer_group`` is the method of the peer's KE payload: among methods of equal rank it is kept to save a round trip.
    ``intermediate``: whether both ends speak IKE_INTERMEDIATE; without it ADDKE cannot be used (RFC 9370 2.2.1).
    """
    choices = [
        (proposal, choice)
        for proposal in proposals
        if proposal.protocol == ProtocolId.IKE and (choice := _Choice(proposal, _IKE_TYPES)).known
    ]
    for offer in offers:
        if offer.additional and not intermediate:
            continue
        for proposal, choice in choices:
            suite = _accept_ike_offer(offer, choice, peer_group)
            if suite is not None:
                return proposal, suite
    return None


def _accept_ike_offer(offer: IkeOffer, choice: _Choice, peer_group: int) -> IkeSuite | None:
    encryption = choice.encryption(offer.encryptions)
    if encryption is None or not choice.additional(offer.additional):
        return None
    agreed, integrity = choice.integrity(encryption, offer.integrities)
    prf = next((each for each in offer.prfs if choice.has(TransformType.PRF, each.transform_id)), None)
    methods = [each for each in offer.key_exchanges if choice.has(TransformType.KE, each.transform_id)]
    if not agreed or prf is None or not methods:
        return None
    method = next((each for each in methods if each.transform_id == peer_group), methods[0])
    return IkeSuite(encryption, integrity, prf, method, offer.additional)


def accept_child(offers: tuple[ChildOffer, ...], proposals: Sequence[Proposal]) -> tuple[Proposal, EspSuite] | None:
    """As accept_ike, for the CHILD_SA of IKE_AUTH: any KE transform is ignored (RFC 7296 1.2)."""
    choices = [
        (proposal, choice)
        for proposal in proposals
        if proposal.protocol == ProtocolId.ESP and (choice := _Choice(proposal, _ESP_TYPES)).known
    ]
    for offer in offers:
        for proposal, choice in choices:
            encryption = choice.encryption(offer.encryptions)
            if encryption is None:
                continue
            agreed, integrity = choice.integrity(encryption, offer.integrities)
            esn = next((each for each in offer.esn if choice.has(TransformType.SN, int(each))), None)
            if agreed and esn is not None:
                return proposal, _esp_suite(encryption, integrity, esn)
    return None


def answer(proposal: Proposal, exact: Proposal) -> SecurityAssociation:
    """The SA payload that accepts ``proposal`` with the transforms and SPI of ``exact`` (RFC 7296 2.7)."""
    return SecurityAssociation((exact._replace(number=proposal.number),))


def chosen_ike(offered: SecurityAssociation, reply: SecurityAssociation) -> IkeSuite | None:
    """The suite that a responder chose from what we offered, or None when it is not one of those."""
    chosen = _chosen(offered, reply)
    if chosen is None:
        return None
    encryption, integrity = _ciphers(chosen)
    prf = suites.PRFS[chosen[TransformType.PRF].transform_id]
    # in the order of ADDKE1 to ADDKE7, behind KE
    methods = [chosen[kind].transform_id for kind in _KEY_EXCHANGE_TYPES if kind in chosen]
    method, *additional = (suites.KEY_EXCHANGES[each] for each in methods)
    return IkeSuite(encryption, integrity, prf, method, tuple(additional))


def chosen_child(offered: SecurityAssociation, reply: SecurityAssociation) -> EspSuite | None:
    """As chosen_ike, for IKE_AUTH, where no key exchange is offered and so none can be chosen (RFC 7296 1.2)."""
    chosen = _chosen(offered, reply)
    if chosen is None:
        return None
    sequence_numbers = chosen[TransformType.SN].transform_id
    esn = sequence_numbers == SequenceNumbersId.PARTIALLY_TRANSMITTED_64_BIT
    return EspSuite(*_ciphers(chosen), esn=esn)


def _chosen(offered: SecurityAssociation, reply: SecurityAssociation) -> dict[int, Transform] | None:
    """The transforms of a reply by type.

    RFC 7296 2.7: one proposal under the number of one of ours, with one transform of each type that it offers, and
    each of them literally as it was offered.
    """
    proposal = reply.proposals[0]
    transforms = [each for each in proposal.transforms if not _is_none(each)]
    ours = next((each for each in offered.proposals if each.number == proposal.number), None)
    if ours is None or len(reply.proposals) != 1 or proposal.protocol != ours.protocol:
        return None
    if not set(transforms) <= set(ours.transforms):
        return None
    chosen = {each.transform_type: each for each in transforms}
    is_complete = chosen.keys() == {each.transform_type for each in ours.transforms}
    return chosen if is_complete and len(chosen) == len(transforms) else None


def _ciphers(chosen: Mapping[int, Transform]) -> tuple[suites.Encryption, suites.Integrity | None]:
    encryption, integrity = chosen[TransformType.ENCR], chosen.get(TransformType.INTEG)
    return (
        suites.ENCRYPTIONS[encryption.transform_id, encryption.key_bits],
        None if integrity is None else suites.INTEGRITIES[integrity.transform_id],
    )


def same_transforms(one: Proposal, other: Proposal) -> bool:
    """Whether two proposals name the same transforms, NONE being the same as absence."""
    return one.protocol == other.protocol and _effective(one) == _effective(other)


def find_same(proposals: Sequence[Proposal], exact: Proposal) -> Proposal | None:
    """The first of the peer's proposals that allows exactly ``exact``: the latch (RFC 5660) allows nothing else."""
    wanted = _effective(exact)
    wanted_kinds = {each.transform_type for each in wanted}
    for proposal in proposals:
        kinds = {each.transform_type for each in proposal.transforms}
        optional = {each.transform_type for each in proposal.transforms if _is_none(each)}
        if proposal.protocol == exact.protocol and wanted <= _effective(proposal) and kinds - optional <= wanted_kinds:
            return proposal
    return None


_NONE_IS_ZERO: frozenset[int] = frozenset({TransformType.INTEG, *_KEY_EXCHANGE_TYPES})


def _is_none(transform: Transform) -> bool:
    return transform.transform_id == 0 and transform.transform_type in _NONE_IS_ZERO and not transform.attributes


def _effective(proposal: Proposal) -> set[Transform]:
    """Attributes included: with one that we do not understand it is another transform (RFC 7296 3.3.6)."""
    return {each for each in proposal.transforms if not _is_none(each)}
