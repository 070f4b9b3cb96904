"""What a failed negotiation is called in a net event, and whose fault it says it was."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import securesock as ss
from securesock.engine.failure_events import report_failure, winerror_of
from securesock.identity.names import parse_peer_target_name
from securesock.policy.access import EVERYONE, AccessEntry, Right, SecurityDescriptor
from securesock.policy.events import FailurePoint, MmFailure, NetEvent, SaRole
from securesock.policy.filter_engine import FilterEngine
from securesock.types import ANY_TRUSTED_PEER, Flow
from securesock.wire.winsock_numbers import ERROR_IPSEC_IKE

FLOW = Flow(6, "10.0.0.1", 5, "192.0.2.7", 443)
NOW = datetime(2026, 11, 28, tzinfo=UTC)
CONTEXT = ss.SecurityContext(ss.Identity.ephemeral("host/a.example"))


@pytest.mark.parametrize(
    ("error", "code", "point"),
    [
        (ss.AuthenticationFailed("x"), ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_AUTH_FAIL, FailurePoint.NONE),
        (ss.PolicyRefused("x"), ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_NO_POLICY, FailurePoint.NONE),
        (ss.PeerIncompatible("x"), ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_POLICY_MATCH, FailurePoint.NONE),
        (ss.KeyingTimeout("x"), ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_TIMED_OUT, FailurePoint.PEER),
        (TimeoutError("x"), ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_TIMED_OUT, FailurePoint.NONE),
        (ss.PeerMisbehaved("x"), ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_GENERAL_PROCESSING_ERROR, FailurePoint.PEER),
        (ss.LocalMisuse("x"), ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_GENERAL_PROCESSING_ERROR, FailurePoint.ME),
        (ConnectionResetError("x"), ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_GENERAL_PROCESSING_ERROR, FailurePoint.NONE),
    ],
)
def test_each_reason_has_its_code_and_its_side(error: OSError, code: ERROR_IPSEC_IKE, point: FailurePoint) -> None:
    assert winerror_of(error) == code
    with FilterEngine.open(":memory:") as engine:
        expected = parse_peer_target_name("b.example")
        report_failure(engine, CONTEXT, FLOW, error, SaRole.INITIATOR, NOW, expected)
        (event,) = engine.net_events.enumerate()
    assert event == NetEvent(
        MmFailure(
            int(code), point, role=SaRole.INITIATOR, local_principal="host/a.example", remote_principal="host/b.example"
        ),
        NOW,
        protocol=6,
        local_address="10.0.0.1",
        remote_address="192.0.2.7",
        local_port=5,
        remote_port=443,
    )


def test_nothing_has_no_code_of_its_own() -> None:
    assert winerror_of(None) == ERROR_IPSEC_IKE.ERROR_IPSEC_IKE_GENERAL_PROCESSING_ERROR


def test_an_engine_that_collects_nothing_or_takes_nothing_keeps_nobody_from_going_on() -> None:
    with FilterEngine.open(":memory:") as engine:
        engine.net_events.is_collecting = False
        report_failure(engine, CONTEXT, FLOW, ss.PeerMisbehaved("x"), SaRole.RESPONDER, NOW, ANY_TRUSTED_PEER)
        engine.net_events.is_collecting = True
        reading = Right.OPEN | Right.READ | Right.CLASSIFY | Right.ENUM
        engine.set_security(SecurityDescriptor((AccessEntry(True, EVERYONE, reading),)))
        report_failure(engine, CONTEXT, FLOW, ss.PeerMisbehaved("x"), SaRole.RESPONDER, NOW)
        assert engine.net_events.enumerate() == []
