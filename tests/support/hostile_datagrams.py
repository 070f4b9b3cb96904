"""An authenticated UDP peer that does what it likes: a plain socket, a real key exchange, packets of its own making.

For tests of real datagram sockets: whatever it sends comes from an address and under keys that the other end knows.
"""

from __future__ import annotations

import socket
import struct
from time import monotonic, time

import securesock as ss
from securesock.engine.connect import connecting
from securesock.entropy import SystemEntropy
from securesock.keying.contract import FlowReady, InstallSa, SendDatagram
from securesock.keying.ikev2.ike_sa import IkeSa
from securesock.keying.ikev2.session import IkeSession
from securesock.planes.userspace.packet import PacketSealer
from securesock.sad.entries import OutboundSa
from securesock.sad.spec import SaSpec
from securesock.types import Address
from securesock.wire.ikev2.message import write_skf_prefix
from securesock.wire.numbers import ExchangeType, HeaderFlag
from securesock.wire.tcp_encapsulation import NON_ESP_MARKER
from tests.support.loopback import PATIENCE_S

__all__ = ["HostilePeer"]


class HostilePeer:
    """Connected to the datagram socket at ``server`` from a port of its own; a context manager."""

    def __init__(self, server: Address, context: ss.SecurityContext, *, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.connect(server)
        self.socket.settimeout(PATIENCE_S)
        offset_s = time() - monotonic()
        config = connecting(
            context,
            ss.SecuritySettings(),
            ss.ANY_TRUSTED_PEER,
            self.socket.getsockname(),
            server,
            offset_s,
            carrier="datagram",
        )
        self.session = IkeSession(config, SystemEntropy())
        self.ready = False
        self._outbound: SaSpec | None = None
        self.sealer: PacketSealer | None = None

    def __enter__(self) -> HostilePeer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    @property
    def ike(self) -> IkeSa:
        """Its key exchange SA."""
        if self.session._core.ike is None:
            raise RuntimeError("nothing was negotiated yet")
        return self.session._core.ike

    def begin(self, *, stop_before_auth: bool = False) -> None:
        """Negotiate; with ``stop_before_auth`` only until there are keys."""
        self.session.handle_acquire(monotonic())
        while True:
            while (action := self.session.poll_action()) is not None:
                match action:
                    case SendDatagram(data):
                        self.socket.send(NON_ESP_MARKER + data)
                    case InstallSa(spec, "outbound"):
                        self._outbound = spec
                    case FlowReady():
                        self.ready = True
                if stop_before_auth and self.ike.has_keys:
                    return
            if self.ready and self._outbound is not None:
                self.sealer = PacketSealer(OutboundSa(self._outbound, monotonic()))
                return
            data = self.socket.recv(65536)
            if data[:4] == NON_ESP_MARKER:
                self.session.handle_datagram(data[4:], monotonic())

    def ask_for_life(self) -> None:
        """A question in one piece, and its answer."""
        self.session.check_liveness(monotonic())
        while self.ike.window.awaiting_reply:
            while (action := self.session.poll_action()) is not None:
                if isinstance(action, SendDatagram):
                    self.socket.send(NON_ESP_MARKER + action.data)
            data = self.socket.recv(65536)
            if data[:4] == NON_ESP_MARKER:
                self.session.handle_datagram(data[4:], monotonic())

    def seal(self, data: bytes) -> bytes:
        """A packet as it should be."""
        if self.sealer is None:
            raise RuntimeError("there is no SA yet")
        return bytes(self.sealer.seal(data))

    def craft(self, inner: bytes, next_header: int = 17) -> bytes:
        """An authentic packet with this in it."""
        if self.sealer is None:
            raise RuntimeError("there is no SA yet")
        sa = self.sealer.sa
        cipher = sa.cipher
        pad = -(len(inner) + 2) % cipher.alignment
        sa.packets += 1
        head = struct.pack(">II", sa.spi, sa.packets & 0xFFFFFFFF) + bytes(cipher.iv_length)
        trailer = bytes(range(1, pad + 1)) + bytes((pad, next_header))
        packet = bytearray(head + inner + trailer + bytes(cipher.icv_length))
        cipher.seal_packet(memoryview(packet), sa.packets)
        return bytes(packet)

    def send_fragment(self, number: int, total: int, piece: bytes, *, message_id: int | None = None) -> None:
        """An authentic fragment of the next request, whatever it says of itself."""
        sa = self.ike
        wanted = sa.window.next_request_id if message_id is None else message_id
        padded = sa._sealer.pad(piece)
        exchange = ExchangeType.INFORMATIONAL if self.ready else ExchangeType.IKE_AUTH
        size = len(padded) + sa._sealer.overhead
        head = (sa.initiator_spi, sa.responder_spi, exchange, HeaderFlag.INITIATOR, wanted)
        prefix = write_skf_prefix(*head, 0, size, 1, 1)[:-4] + struct.pack(">HH", number, total)
        self.socket.send(NON_ESP_MARKER + sa._seal(prefix, padded))
