"""The SA payload: RFC 7296's own example, marks and counts, unknown transforms and attributes."""

from __future__ import annotations

import pytest

from securesock.errors import WireError
from securesock.wire.ikev2.proposals import (
    MAX_ATTRIBUTES,
    MAX_PROPOSALS,
    MAX_TRANSFORMS,
    Proposal,
    SecurityAssociation,
    Transform,
    parse_security_association,
    write_security_association,
)

# the SA payload drawn in RFC 7296 3.3: AES-CBC with two integrity algorithms, or AES-GCM-8, each with and without ESN
RFC7296_EXAMPLE = SecurityAssociation(
    (
        Proposal(
            1,
            3,
            bytes.fromhex("052357bb"),
            (
                Transform(1, 12, 128),
                Transform(1, 12, 192),
                Transform(1, 12, 256),
                Transform(3, 2),
                Transform(3, 5),
                Transform(5, 1),
                Transform(5, 0),
            ),
        ),
        Proposal(
            2,
            3,
            bytes.fromhex("35a1d6f2"),
            (Transform(1, 18, 128), Transform(1, 18, 256), Transform(5, 1), Transform(5, 0)),
        ),
    )
)
RFC7296_EXAMPLE_BYTES = bytes.fromhex(
    "02000050 01030407 052357bb"
    "0300000c 0100000c 800e0080"
    "0300000c 0100000c 800e00c0"
    "0300000c 0100000c 800e0100"
    "03000008 03000002"
    "03000008 03000005"
    "03000008 05000001"
    "00000008 05000000"
    "00000034 02030404 35a1d6f2"
    "0300000c 01000012 800e0080"
    "0300000c 01000012 800e0100"
    "03000008 05000001"
    "00000008 05000000"
)


def test_example_of_rfc7296_both_ways() -> None:
    assert write_security_association(RFC7296_EXAMPLE) == RFC7296_EXAMPLE_BYTES
    assert parse_security_association(RFC7296_EXAMPLE_BYTES) == RFC7296_EXAMPLE


def one(*transforms: Transform) -> SecurityAssociation:
    return SecurityAssociation((Proposal(1, 1, b"", transforms),))


@pytest.mark.parametrize(
    "transform",
    [
        Transform(1, 12, 128, ((0x8010, b"\1\2"),)),
        Transform(1, 12, None, ((0x0011, b"longer value"),)),
        Transform(200, 60000),
        Transform(1, 12, None, ((0x000E, b"\x01\x00"),)),
    ],
)
def test_transforms_and_attributes_unknown_here_survive(transform: Transform) -> None:
    assert parse_security_association(write_security_association(one(transform))) == one(transform)


def test_second_key_length_makes_the_transform_unequal_to_any_we_know() -> None:
    # RFC 7296 3.3: no attribute twice; 3.3.6: such a transform is unacceptable, the others are not
    raw = bytes.fromhex("00000018 01010001 00000010 0100000c 800e0080 800e0100")
    (transform,) = parse_security_association(raw).proposals[0].transforms
    assert transform == Transform(1, 12, 128, ((0x800E, b"\x01\x00"),))
    assert transform != Transform(1, 12, 128)


def test_long_lists_of_transforms_are_read_as_short_ones_are() -> None:
    sa = one(*(Transform(4, number) for number in range(200)))
    assert parse_security_association(write_security_association(sa)) == sa


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00000008 01010000",  # no transforms
        "00000010 01010002 00000008 02000005",  # fewer than counted
        "00000018 01010001 03000008 02000005 00000008 02000006",  # more than counted
        "02000010 01010001 00000008 02000005",  # more to come, and nothing comes
        "00000010 01010001 03000008 02000005",
        "01000010 01010001 00000008 02000005",  # marks that are neither 0 nor 2, 3
        "00000010 01010001 02000008 02000005",
        "00000010 01010001 00000008 02000005 00",
        "00000011 01010001 00000008 02000005 00",
        "0000000f 01010001 00000008 020000",
        "00000010 01010001 00000007 02000005",
        "00000010 01010001 00000009 02000005",
        "00000012 01010001 0000000a 02000005 800e",
        "00000014 01010001 0000000c 02000005 000e0001",
        "00000014 01010401 00000008 02000005 00000000",
        "00000014 01010401 61626364 00000008 02000005",  # an IKE SPI of 4 bytes
        "00000010 01030001 00000008 05000000",  # an ESP proposal without SPI
        "00000009 010103ff 00",
    ],
)
def test_lengths_counts_and_marks_that_disagree_are_refused(text: str) -> None:
    with pytest.raises(WireError):
        parse_security_association(bytes.fromhex(text))


def test_proposals_must_be_numbered_one_after_the_other() -> None:
    proposal = Proposal(3, 1, b"", (Transform(2, 5),))
    following = proposal._replace(number=4)
    assert parse_security_association(write_security_association(SecurityAssociation((proposal, following))))
    with pytest.raises(WireError, match="numbered"):
        parse_security_association(write_security_association(SecurityAssociation((proposal, proposal))))


@pytest.mark.parametrize(
    ("protocol", "lengths"),
    [(1, {0, 8}), (2, {4}), (3, {4})],
)
@pytest.mark.parametrize("length", range(10))
def test_spi_has_the_length_of_its_protocol(protocol: int, lengths: set[int], length: int) -> None:
    raw = write_security_association(SecurityAssociation((Proposal(1, protocol, bytes(length), (Transform(2, 5),)),)))
    if length in lengths:
        assert len(parse_security_association(raw).proposals[0].spi) == length
    else:
        with pytest.raises(WireError, match="SPI"):
            parse_security_association(raw)


@pytest.mark.parametrize(
    "text",
    [
        "01000010 01010001 00000008 02000005 00000010 02010001 00000008 02000005",  # a mark that is neither 0 nor 2
        "02000010 01090901 00000008 02000005 00000010 02010001 00000008 02000005",  # an SPI beyond its proposal
        "02000011 01010001 00000008 02000005 00000010 02010001 00000008 02000005",
        "0200000f 01010001 00000008 02000005 00000010 02010001 00000008 02000005",
    ],
)
def test_proposal_is_not_read_over_its_end_nor_over_a_wrong_mark(text: str) -> None:
    with pytest.raises(WireError):
        parse_security_association(bytes.fromhex(text))


def test_spi_of_a_protocol_unknown_here_may_have_any_length() -> None:
    sa = SecurityAssociation((Proposal(1, 9, b"abc", (Transform(2, 5),)),))
    assert parse_security_association(write_security_association(sa)) == sa


def test_counts_are_bounded() -> None:
    transform = (Transform(2, 5),)
    proposals = tuple(Proposal(number, 1, b"", transform) for number in range(1, MAX_PROPOSALS + 2))
    assert parse_security_association(write_security_association(SecurityAssociation(proposals[:-1])))
    with pytest.raises(WireError, match="proposals"):
        parse_security_association(write_security_association(SecurityAssociation(proposals)))

    quarters = tuple(Proposal(number, 1, b"", transform * (MAX_TRANSFORMS // 4)) for number in range(1, 5))
    assert parse_security_association(write_security_association(SecurityAssociation(quarters)))
    many = (*quarters, Proposal(5, 1, b"", transform))
    with pytest.raises(WireError, match="transforms"):
        parse_security_association(write_security_association(SecurityAssociation(many)))

    attributes = tuple((0x8020 + number, b"\0\0") for number in range(MAX_ATTRIBUTES + 1))
    assert parse_security_association(write_security_association(one(Transform(1, 1, None, attributes[:-1]))))
    with pytest.raises(WireError, match="attributes"):
        parse_security_association(write_security_association(one(Transform(1, 1, None, attributes))))


@pytest.mark.parametrize(
    "sa",
    [
        SecurityAssociation(()),
        one(),
        one(Transform(1, 12, None, ((0x8010, b"three"),))),
    ],
)
def test_values_without_a_legal_form_are_not_written(sa: SecurityAssociation) -> None:
    with pytest.raises(WireError):
        write_security_association(sa)
