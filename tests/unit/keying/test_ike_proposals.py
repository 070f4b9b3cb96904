"""From policies to one suite, and what a peer may not slip in on the way: RFC 7296 2.7 and 3.3, RFC 9370 2.2."""

from __future__ import annotations

from dataclasses import replace

import pytest

from securesock.crypto import suites
from securesock.crypto.suites import EspSuite, IkeSuite
from securesock.keying.ikev2.proposals import (
    accept_child,
    accept_ike,
    answer,
    chosen_child,
    chosen_ike,
    find_same,
    latched_child_proposal,
    latched_ike_proposal,
    offer_child,
    offer_ike,
    same_transforms,
)
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, DEFAULT_QUICK_MODE, ChildOffer, IkeOffer
from securesock.wire.ikev2.payloads import Proposal, SecurityAssociation, Transform
from securesock.wire.numbers import ProtocolId, TransformType

ENCR, PRF, INTEG, KE, SN, ADDKE1, ADDKE2 = 1, 2, 3, 4, 5, 6, 7
GCM = Transform(ENCR, 20, 256)
CBC = Transform(ENCR, 12, 256)
HMAC_256 = Transform(INTEG, 12)
NO_INTEGRITY = Transform(INTEG, 0)
SHA_256, SHA_384 = Transform(PRF, 5), Transform(PRF, 6)
X25519, P_256, MODP_2048 = Transform(KE, 31), Transform(KE, 19), Transform(KE, 14)
ML_KEM, NO_ADDKE1 = Transform(ADDKE1, 36), Transform(ADDKE1, 0)
ESN, NO_ESN = Transform(SN, 1), Transform(SN, 0)
UNKNOWN_TYPE = Transform(200, 1)
UNKNOWN_ATTRIBUTE = ((0x800F, b"\0\1"),)
SPI = b"spi!"

AEAD_OFFER = IkeOffer(
    (suites.AES_256_GCM_16,), (), (suites.PRF_HMAC_SHA2_256, suites.PRF_HMAC_SHA2_384), (suites.X25519, suites.P_256)
)
CBC_OFFER = replace(AEAD_OFFER, encryptions=(suites.AES_256_CBC,), integrities=(suites.HMAC_SHA2_256_128,))
HYBRID_OFFER = replace(AEAD_OFFER, additional=(suites.ML_KEM_768,))
CHILD_OFFER = ChildOffer((suites.AES_256_GCM_16,))
CBC_CHILD_OFFER = ChildOffer((suites.AES_256_CBC,), (suites.HMAC_SHA2_256_128,))


def ike(*transforms: Transform, number: int = 1) -> Proposal:
    return Proposal(number, ProtocolId.IKE, b"", transforms)


def esp(*transforms: Transform, number: int = 1) -> Proposal:
    return Proposal(number, ProtocolId.ESP, SPI, transforms)


def accepted(*proposals: Proposal, offers: tuple[IkeOffer, ...] = (AEAD_OFFER,), group: int = 31) -> IkeSuite | None:
    found = accept_ike(offers, proposals, peer_group=group, intermediate=True)
    return None if found is None else found[1]


def child(*proposals: Proposal, offers: tuple[ChildOffer, ...] = (CHILD_OFFER,)) -> EspSuite | None:
    found = accept_child(offers, proposals)
    return None if found is None else found[1]


# the responder's choice


def test_what_the_default_policies_offer_they_accept() -> None:
    offered = offer_ike(DEFAULT_MAIN_MODE.offers)
    found = accept_ike(DEFAULT_MAIN_MODE.offers, offered.proposals, peer_group=31, intermediate=True)
    assert found is not None
    assert found[0].number == 1
    assert found[1].name == "AES-256-GCM-16/PRF-HMAC-SHA2-256/X25519+ML-KEM-768"
    esp_found = accept_child(DEFAULT_QUICK_MODE.offers, offer_child(DEFAULT_QUICK_MODE.offers, SPI).proposals)
    assert esp_found is not None
    assert esp_found[1].name == "AES-256-GCM-16/ESN"


def test_the_responders_preference_decides() -> None:
    assert accepted(ike(GCM, SHA_384, SHA_256, P_256, X25519)) == IkeSuite(
        suites.AES_256_GCM_16, None, suites.PRF_HMAC_SHA2_256, suites.X25519
    )
    both = (ike(CBC, HMAC_256, SHA_256, X25519), ike(GCM, SHA_256, X25519, number=2))
    for offers, encryption in (((AEAD_OFFER, CBC_OFFER), "AES-256-GCM-16"), ((CBC_OFFER, AEAD_OFFER), "AES-256-CBC")):
        suite = accepted(*both, offers=offers)
        assert suite is not None
        assert suite.encryption.name == encryption


@pytest.mark.parametrize(("group", "method"), [(31, suites.X25519), (19, suites.P_256), (14, suites.X25519)])
def test_the_group_whose_public_value_came_along_spares_a_round_trip(
    group: int, method: suites.KeyExchangeMethod
) -> None:
    suite = accepted(ike(GCM, SHA_256, X25519, P_256, MODP_2048), group=group)
    assert suite is not None
    assert suite.key_exchange == method


@pytest.mark.parametrize(
    "transforms",
    [
        (SHA_256, X25519),
        (GCM, X25519),
        (GCM, SHA_256),
        (GCM, SHA_256, Transform(KE, 0)),
        (GCM, SHA_256, X25519, UNKNOWN_TYPE),
        (GCM, SHA_256, X25519, ESN),
        (Transform(ENCR, 20, 128), SHA_256, X25519),
        (Transform(ENCR, 20), SHA_256, X25519),
        (GCM._replace(attributes=UNKNOWN_ATTRIBUTE), SHA_256, X25519),
        (GCM, SHA_256, X25519._replace(attributes=UNKNOWN_ATTRIBUTE)),
        (GCM, SHA_256, X25519, NO_INTEGRITY._replace(attributes=UNKNOWN_ATTRIBUTE)),
        (GCM, HMAC_256, SHA_256, X25519),
        (CBC, SHA_256, X25519),
        (CBC, NO_INTEGRITY, SHA_256, X25519),
        (GCM, SHA_256, X25519, ML_KEM),
        (GCM, SHA_256._replace(key_bits=256), X25519),
    ],
    ids=[
        "no cipher",
        "no PRF",
        "no key exchange",
        "NONE for the key exchange",
        "an unknown transform type (RFC 7296 3.3.6)",
        "a type that does not belong here",
        "another key length",
        "a key length that is missing",
        "an unknown attribute of the cipher (RFC 7296 3.3.6)",
        "an unknown attribute of the key exchange",
        "an unknown attribute of NONE",
        "integrity beside an AEAD",
        "a block cipher without integrity",
        "a block cipher with integrity NONE",
        "an additional key exchange that is not optional",
        "a key length of something that has none",
    ],
)
def test_a_proposal_that_cannot_be_kept_is_not_chosen(transforms: tuple[Transform, ...]) -> None:
    assert accepted(ike(*transforms), offers=(AEAD_OFFER, CBC_OFFER)) is None
    # and does not hide a good one behind it
    good = ike(GCM, SHA_256, X25519, number=2)
    assert accepted(ike(*transforms), good, offers=(AEAD_OFFER, CBC_OFFER)) is not None


def test_an_unacceptable_alternative_beside_a_good_one_is_passed_over() -> None:
    unknown = (Transform(ENCR, 250, 256), GCM._replace(attributes=UNKNOWN_ATTRIBUTE), Transform(PRF, 99))
    assert accepted(ike(*unknown, GCM, SHA_256, X25519)) is not None


def test_none_may_be_written_out_or_left_out() -> None:
    """RFC 7296 3.3.2 for INTEG with an AEAD, RFC 9370 2.2.1 for the additional key exchanges."""
    plain = accepted(ike(GCM, SHA_256, X25519))
    assert plain is not None
    assert accepted(ike(GCM, NO_INTEGRITY, SHA_256, X25519)) == plain
    assert accepted(ike(GCM, SHA_256, X25519, NO_ADDKE1)) == plain
    assert accepted(ike(GCM, SHA_256, X25519, ML_KEM, NO_ADDKE1)) == plain
    assert accepted(ike(GCM, HMAC_256, NO_INTEGRITY, SHA_256, X25519)) == plain


def test_an_esp_proposal_is_none_for_an_ike_sa() -> None:
    assert accepted(esp(GCM, SHA_256, X25519)) is None
    assert child(ike(GCM, ESN)) is None


def test_an_additional_key_exchange_needs_ike_intermediate() -> None:
    proposals = (ike(GCM, SHA_256, X25519, ML_KEM), ike(GCM, SHA_256, X25519, number=2))
    offers = (HYBRID_OFFER, AEAD_OFFER)
    hybrid = accept_ike(offers, proposals, peer_group=31, intermediate=True)
    classical = accept_ike(offers, proposals, peer_group=31, intermediate=False)
    assert hybrid is not None
    assert hybrid[1].additional_key_exchanges == (suites.ML_KEM_768,)
    assert classical is not None
    assert (classical[0].number, classical[1].additional_key_exchanges) == (2, ())


def test_one_additional_key_exchange_is_not_agreed_on_as_another() -> None:
    second_too = Transform(ADDKE2, 35)
    assert accepted(ike(GCM, SHA_256, X25519, Transform(ADDKE2, 36)), offers=(HYBRID_OFFER,)) is None
    assert accepted(ike(GCM, SHA_256, X25519, ML_KEM, second_too), offers=(HYBRID_OFFER,)) is None
    with_none = (second_too, Transform(ADDKE2, 0))
    assert accepted(ike(GCM, SHA_256, X25519, ML_KEM, *with_none), offers=(HYBRID_OFFER,)) is not None


@pytest.mark.parametrize(
    ("transforms", "name"),
    [
        ((GCM, ESN), "AES-256-GCM-16/ESN"),
        ((GCM, NO_ESN, ESN), "AES-256-GCM-16/ESN"),
        ((GCM, NO_INTEGRITY, ESN), "AES-256-GCM-16/ESN"),
        ((GCM, ESN, X25519), "AES-256-GCM-16/ESN"),  # RFC 7296 1.2: no key exchange in IKE_AUTH, whatever is offered
        ((CBC, HMAC_256, ESN), "AES-256-CBC/HMAC-SHA2-256-128/ESN"),
        ((GCM,), None),
        ((GCM, NO_ESN), None),
        ((GCM, HMAC_256, ESN), None),
        ((CBC, ESN), None),
        ((GCM, ESN, SHA_256), None),
        ((GCM, ESN, UNKNOWN_TYPE), None),
        ((GCM, ESN._replace(attributes=UNKNOWN_ATTRIBUTE)), None),
    ],
)
def test_the_child_sa_of_ike_auth_is_chosen_by_the_same_rules(
    transforms: tuple[Transform, ...], name: str | None
) -> None:
    suite = child(esp(*transforms), offers=(CHILD_OFFER, CBC_CHILD_OFFER))
    assert (None if suite is None else suite.name) == name


def test_the_answer_has_the_chosen_number_and_one_transform_of_each_type() -> None:
    proposals = offer_ike((CBC_OFFER, HYBRID_OFFER)).proposals
    found = accept_ike((HYBRID_OFFER,), proposals, peer_group=31, intermediate=True)
    assert found is not None
    (reply,) = answer(found[0], latched_ike_proposal(found[1], b"")).proposals
    assert reply == Proposal(2, ProtocolId.IKE, b"", (GCM, SHA_256, X25519, ML_KEM))


# the initiator's check (RFC 7296 2.7: it MUST verify that the accepted offer is one of its own)


def test_every_suite_of_an_offer_may_be_chosen() -> None:
    offered = offer_ike((AEAD_OFFER, CBC_OFFER, HYBRID_OFFER))
    for number, transforms in (
        (1, (GCM, SHA_384, P_256)),
        (1, (GCM, NO_INTEGRITY, SHA_256, X25519)),
        (2, (CBC, HMAC_256, SHA_256, P_256)),
        (3, (GCM, SHA_256, X25519, ML_KEM)),
    ):
        suite = chosen_ike(offered, SecurityAssociation((ike(*transforms, number=number),)))
        assert suite is not None
        written_out = latched_ike_proposal(suite, b"")._replace(number=number)
        assert same_transforms(written_out, ike(*transforms, number=number))


@pytest.mark.parametrize(
    "proposals",
    [
        (ike(GCM, SHA_256, X25519, number=0),),
        (ike(GCM, SHA_256, X25519, number=4),),
        (ike(GCM, SHA_256, X25519, number=2),),
        (ike(GCM, SHA_256, X25519), ike(GCM, SHA_256, X25519, number=2)),
        (ike(GCM, SHA_256, SHA_384, X25519),),
        (ike(GCM, SHA_256, SHA_256, X25519),),
        (ike(GCM, SHA_256, MODP_2048),),
        (ike(GCM, SHA_256, X25519, ML_KEM),),
        (ike(GCM, SHA_256, X25519, number=3),),
        (ike(GCM, SHA_256, X25519, Transform(INTEG, 12)),),
        (ike(GCM, SHA_256, X25519, UNKNOWN_TYPE),),
        (ike(GCM, SHA_256, X25519, HMAC_256._replace(attributes=UNKNOWN_ATTRIBUTE)),),
        (ike(GCM, SHA_256, X25519, Transform(ADDKE2, 36, None, UNKNOWN_ATTRIBUTE)),),
        (esp(GCM, SHA_256, X25519),),
    ],
    ids=[
        "number 0",
        "a number that was not offered",
        "another offer's algorithms",
        "two proposals",
        "two of one type",
        "the same twice",
        "a method that was not offered",
        "an additional method that was not offered",
        "without the additional method that was offered",
        "integrity that was not offered",
        "a type that was not offered",
        "integrity with an attribute",
        "an additional method with an attribute",
        "another protocol",
    ],
)
def test_a_reply_that_is_not_one_of_our_offers_is_refused(proposals: tuple[Proposal, ...]) -> None:
    offered = offer_ike((AEAD_OFFER, CBC_OFFER, HYBRID_OFFER))
    assert chosen_ike(offered, SecurityAssociation(proposals)) is None


@pytest.mark.parametrize(
    ("proposal", "name"),
    [
        (esp(GCM, ESN), "AES-256-GCM-16/ESN"),
        (esp(GCM, NO_INTEGRITY, ESN), "AES-256-GCM-16/ESN"),
        (esp(CBC, HMAC_256, ESN, number=2), "AES-256-CBC/HMAC-SHA2-256-128/ESN"),
        (esp(GCM, ESN, X25519), None),
        (esp(GCM, ESN, Transform(KE, 0)), "AES-256-GCM-16/ESN"),
        (esp(GCM, ESN, ML_KEM), None),
        (esp(GCM, ESN, X25519._replace(attributes=UNKNOWN_ATTRIBUTE)), None),
        (esp(GCM, NO_ESN), None),
        (esp(GCM), None),
        (esp(GCM, ESN, number=2), None),
        (esp(GCM, ESN, number=3), None),
        (esp(GCM, GCM, ESN), None),
    ],
)
def test_a_child_sa_in_a_reply_is_one_of_our_offers(proposal: Proposal, name: str | None) -> None:
    """A key exchange above all: none was offered for the CHILD_SA of IKE_AUTH (RFC 7296 1.2)."""
    offered = offer_child((CHILD_OFFER, CBC_CHILD_OFFER), SPI)
    suite = chosen_child(offered, SecurityAssociation((proposal,)))
    assert (None if suite is None else suite.name) == name


# the latch


EXACT = latched_child_proposal(EspSuite(suites.AES_256_GCM_16, None, suites.X25519, (suites.ML_KEM_768,)), b"ours")


def test_the_latched_transforms_are_found_among_others() -> None:
    wanted = esp(GCM, ESN, X25519, ML_KEM)
    more = esp(CBC, GCM, NO_ESN, ESN, P_256, X25519, ML_KEM, NO_ADDKE1, number=2)
    assert find_same((wanted, more), EXACT) is wanted
    assert find_same((more,), EXACT) is more
    assert find_same((esp(GCM, NO_INTEGRITY, ESN, X25519, ML_KEM, Transform(ADDKE2, 0)),), EXACT) is not None


@pytest.mark.parametrize(
    "proposal",
    [
        esp(CBC, HMAC_256, ESN, X25519, ML_KEM),
        esp(Transform(ENCR, 20, 128), ESN, X25519, ML_KEM),
        esp(GCM, NO_ESN, X25519, ML_KEM),
        esp(GCM, ESN, P_256, ML_KEM),
        esp(GCM, ESN, X25519),
        esp(GCM, ESN, X25519, NO_ADDKE1),
        esp(GCM, ESN),
        esp(GCM, ESN, X25519, ML_KEM, HMAC_256),
        esp(GCM, ESN, X25519, ML_KEM, Transform(ADDKE2, 35)),
        esp(GCM, ESN, X25519, ML_KEM, UNKNOWN_TYPE),
        esp(GCM, ESN, X25519._replace(attributes=UNKNOWN_ATTRIBUTE), ML_KEM),
        esp(GCM, ESN, X25519, ML_KEM, NO_INTEGRITY._replace(attributes=UNKNOWN_ATTRIBUTE)),
        Proposal(1, ProtocolId.AH, SPI, (GCM, ESN, X25519, ML_KEM)),
        ike(GCM, ESN, X25519, ML_KEM),
    ],
    ids=[
        "another cipher",
        "another key length",
        "without ESN",
        "another key exchange",
        "without the additional one",
        "NONE for the additional one",
        "without PFS",
        "integrity beside it",
        "one more key exchange",
        "a type that we do not know",
        "an attribute that we do not know",
        "NONE with an attribute that we do not know",
        "AH",
        "IKE",
    ],
)
def test_anything_but_the_latched_transforms_is_not_found(proposal: Proposal) -> None:
    assert find_same((proposal,), EXACT) is None
    good = esp(GCM, ESN, X25519, ML_KEM, number=2)
    assert find_same((proposal, good), EXACT) is good


def test_transforms_are_compared_whatever_their_order_number_and_spi() -> None:
    reply = Proposal(7, ProtocolId.ESP, b"else", (ML_KEM, X25519, ESN, NO_INTEGRITY, GCM))
    assert same_transforms(reply, EXACT)
    assert not same_transforms(reply._replace(protocol=ProtocolId.AH), EXACT)
    assert not same_transforms(reply._replace(transforms=(*reply.transforms, UNKNOWN_TYPE)), EXACT)
    spoiled = X25519._replace(attributes=UNKNOWN_ATTRIBUTE)
    assert not same_transforms(reply._replace(transforms=(ML_KEM, spoiled, ESN, GCM)), EXACT)
    assert not same_transforms(reply._replace(transforms=(*reply.transforms, spoiled)), EXACT)


def test_a_latched_proposal_says_everything_once() -> None:
    suite = IkeSuite(
        suites.AES_256_CBC,
        suites.HMAC_SHA2_256_128,
        suites.PRF_HMAC_SHA2_256,
        suites.X25519,
        (suites.ML_KEM_768,),
    )
    proposal = latched_ike_proposal(suite, b"8 bytes!")
    assert proposal == Proposal(1, ProtocolId.IKE, b"8 bytes!", (CBC, SHA_256, HMAC_256, X25519, ML_KEM))
    assert {each.transform_type for each in EXACT.transforms} == {
        TransformType.ENCR,
        TransformType.SN,
        TransformType.KE,
        TransformType.ADDKE1,
    }
