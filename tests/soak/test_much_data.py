"""Much data through one connection whose SAs are replaced again and again: not a byte lost or moved."""

from __future__ import annotations

import hashlib
import random
import threading
from dataclasses import replace

import pytest

import securesock as ss
from securesock.policy.negotiation import DEFAULT_MAIN_MODE, DEFAULT_QUICK_MODE
from tests.soak.sizes import CHILD_REKEY_BYTES, FULL, IKE_REKEY_BYTES, TRANSFER_BYTES

CHUNK = 1 << 20


def context(identity: ss.Identity) -> ss.SecurityContext:
    """Rekeying begins at half of a limit, so the limits are twice what the test is about."""
    quick = DEFAULT_QUICK_MODE.lifetimes._replace(max_bytes=2 * CHILD_REKEY_BYTES)
    main = DEFAULT_MAIN_MODE.lifetimes._replace(max_bytes=2 * IKE_REKEY_BYTES)
    return ss.SecurityContext(
        identity,
        main_mode=replace(DEFAULT_MAIN_MODE, lifetimes=main),
        quick_mode=replace(DEFAULT_QUICK_MODE, lifetimes=quick),
    )


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("sender_is_client", [True, False])
def test_much_data_through_many_rekeys_arrives_as_sent(
    sender_is_client: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = ss.Identity.ephemeral("host/server.example")
    client_context = context(ss.Identity.ephemeral("host/client.example", authority=identity.authority))
    with ss.create_server(("127.0.0.1", 0), context=context(identity)) as listener:
        client = ss.create_connection(listener.getsockname(), 30, peer="host/server.example", context=client_context)
        server, _ = listener.accept()
    sender, receiver = (client, server) if sender_is_client else (server, client)
    sender.settimeout(None)
    receiver.settimeout(None)
    sent = hashlib.sha256()
    main_mode_ids: set[int] = set()
    quick_mode_ids: set[int] = set()

    def send() -> None:
        source = random.Random(1)
        left = TRANSFER_BYTES
        with sender:
            while left:
                # sizes that are no multiple of anything
                data = source.randbytes(min(left, source.randrange(1, CHUNK)))
                sent.update(data)
                sender.sendall(data)
                left -= len(data)
            sender.shutdown(1)
            assert sender.recv(1) == b""

    thread = threading.Thread(target=send)
    thread.start()
    received, count = hashlib.sha256(), 0
    with receiver:
        while data := receiver.recv(CHUNK):
            received.update(data)
            count += len(data)
            info = receiver.query_security()
            main_mode_ids.add(info.main_mode_sa_id)
            quick_mode_ids.add(info.quick_mode_sa_id)
    thread.join(60)
    with capsys.disabled():
        rekeys = f"{len(quick_mode_ids) - 1} CHILD_SA rekeys, {len(main_mode_ids) - 1} IKE_SA rekeys"
        print(f"\nsoak: {count} bytes, {rekeys}, sha256 {received.hexdigest()[:16]}... on both ends")
    assert count == TRANSFER_BYTES
    assert received.digest() == sent.digest()
    assert len(quick_mode_ids) - 1 >= least_rekeys(CHILD_REKEY_BYTES)
    assert len(main_mode_ids) - 1 >= least_rekeys(IKE_REKEY_BYTES)


def least_rekeys(share: int) -> int:
    """A rekey begins at its share and data goes on until it is there, at the latest at the limit, which is twice that.

    Of a full share a rekey takes less than half; of a tenth of one it may take all that is left.
    """
    latest = share * 3 // 2 if FULL else share * 2
    return (TRANSFER_BYTES - 1) // latest
