"""What a datagram on a port with markers is (RFC 3948 2)."""

from __future__ import annotations

import pytest

from securesock.errors import WireError
from securesock.wire.udp_encapsulation import NAT_KEEPALIVE, DatagramKind, classify_datagram_untrusted


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ff", DatagramKind.KEEPALIVE),
        ("00000000 c0c1c2c3c4c5c6c7", DatagramKind.IKE),
        ("01020304 00000005", DatagramKind.ESP),
        ("ffffffff ffffffff", DatagramKind.ESP),
        ("00000001 00000001", DatagramKind.ESP),
    ],
)
def test_first_bytes_tell(text: str, kind: DatagramKind) -> None:
    assert classify_datagram_untrusted(bytes.fromhex(text)) is kind
    assert classify_datagram_untrusted(memoryview(bytes.fromhex(text))) is kind


@pytest.mark.parametrize("datagram", [b"", b"\x00", NAT_KEEPALIVE * 2, bytes(4), b"\0\0\1\0\0\0\0"])
def test_what_is_none_of_the_three_is_refused(datagram: bytes) -> None:
    with pytest.raises(WireError):
        classify_datagram_untrusted(datagram)
