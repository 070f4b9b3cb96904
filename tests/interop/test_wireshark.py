"""Wireshark reads what our sockets said, from the files that SECURESOCK_KEYLOG writes: IKE and ESP, UDP and TCP.

Its verdicts count: it verifies each IKE message's and each ESP packet's tag with the keys of the files.  There are two
of it: Debian 12's, and Debian unstable's, which alone knows ChaCha20-Poly1305 in ESP and 64-bit sequence numbers.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.interop.both_ends import CIPHERS, MESSAGE, ROUNDS
from tests.interop.debian_unstable import debian_unstable
from tests.support.recorder import Recorded, recording, write_capture
from tools import leftovers

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_program("ip"),
    pytest.mark.needs_program("tshark"),
    pytest.mark.needs_program("debootstrap"),
    pytest.mark.timeout(300),  # the first of a clone makes Debian unstable
]

BOTH_ENDS: Final = Path(__file__).with_name("both_ends.py")
IKE_TABLE: Final = "ikev2_decryption_table"
TCP, UDP = 6, 17
EXCHANGES: Final = {"IKE_AUTH": 35, "CREATE_CHILD_SA": 36, "INFORMATIONAL": 37, "IKE_FOLLOWUP_KE": 44}
INTERMEDIATE: Final = 43


class Capture(NamedTuple):
    """A folder that both read: a capture, and the two key files."""

    folder: Path
    root: Path

    def keep_first_keys(self) -> None:
        """Of the lines with one pair of SPIs the first: the keys of IKE_INTERMEDIATE itself (RFC 9242 3.3.1).

        The table has room for one line a pair, and takes the last.
        """
        table = self.folder / IKE_TABLE
        first: dict[str, str] = {}
        for line in table.read_text().splitlines():
            first.setdefault(line[:33], line)
        table.write_text("\n".join(first.values()) + "\n")

    def read(self, *arguments: str, newer: bool) -> str:
        """What a tshark says."""
        folder = "/" / self.folder.relative_to(self.root) if newer else self.folder
        command = ["chroot", str(self.root)] if newer else []
        command += ["tshark", "-n", "-r", f"{folder}/capture.pcap"]
        for setting in ("esp.enable_encryption_decode", "esp.enable_authentication_check"):
            command += ["-o", f"{setting}:TRUE"]
        environment = {**os.environ, "WIRESHARK_CONFIG_DIR": str(folder), "HOME": "/root"}
        done = subprocess.run(
            [*command, *arguments], env=environment, check=True, capture_output=True, text=True, timeout=100
        )
        assert "Error loading table" not in done.stderr or not newer, done.stderr
        return done.stdout

    def frames(self, *, newer: bool) -> list[str]:
        """What it makes of each frame."""
        return re.split(r"^Frame (?=\d+: )", self.read("-V", newer=newer), flags=re.MULTILINE)[1:]


@pytest.fixture
def capture(request: pytest.FixtureRequest) -> Iterator[Capture]:
    carrier, cipher = request.param
    root = debian_unstable()
    with (
        leftovers.folder("capture", parent=root / "tmp") as folder,
        leftovers.namespace("both") as namespace,
        recording(namespace, "lo") as recorded,
    ):
        subprocess.run(
            ["ip", "netns", "exec", namespace, sys.executable, "-W", "ignore", str(BOTH_ENDS), carrier, cipher],
            env={**os.environ, "SECURESOCK_KEYLOG": str(folder)},
            check=True,
            timeout=60,
        )
        packets = recorded.packets()
        write_capture(folder / "capture.pcap", unframed(packets) if carrier == "stream" else packets)
        yield Capture(folder, root)


def unframed(packets: list[Recorded]) -> Iterator[Recorded]:
    """The messages of a TCP connection as datagrams: Wireshark knows RFC 3948's framing and not RFC 9329's."""
    streams: dict[tuple[int, int], bytearray] = {}
    following: dict[tuple[int, int], int] = {}
    for each in packets:
        if each.protocol != TCP:
            continue
        segment = each.content
        sequence = int.from_bytes(segment[4:8], "big")
        data = segment[(segment[12] >> 4) * 4 :]
        if segment[13] & 2:  # SYN takes a number
            streams[each.ports], following[each.ports] = bytearray(), sequence + 1
        elif data and sequence == following[each.ports]:
            following[each.ports] = (sequence + len(data)) % 2**32
            stream = streams[each.ports]
            stream += data
            if stream.startswith(b"IKETCP"):
                del stream[:6]
            yield from datagrams(stream, each.ports)


def datagrams(stream: bytearray, ports: tuple[int, int]) -> Iterator[Recorded]:
    """Each whole frame at its beginning, taken off (RFC 9329 3: a length that counts itself)."""
    while len(stream) >= 2 and len(stream) >= (length := int.from_bytes(stream[:2], "big")):
        udp = struct.pack(">HHHH", *ports, length + 6, 0) + stream[2:length]
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, len(udp) + 20, 0, 0, 64, UDP, 0, *[bytes((127, 0, 0, 1))] * 2)
        yield Recorded(bytes(12) + b"\x08\x00" + head + udp)
        del stream[:length]


ALL: Final = [(carrier, cipher) for carrier in ("datagram", "stream") for cipher in CIPHERS]


@pytest.mark.parametrize("capture", ALL, indirect=True, ids=map(": ".join, ALL))
def test_wireshark_verifies_every_message_and_packet(capture: Capture) -> None:
    seen = Counter[int]()
    for frame in capture.frames(newer=True):
        for exchange, verdict in checksums(frame):
            seen[exchange] += 1
            assert verdict == "correct" or exchange == INTERMEDIATE, frame
    assert all(seen[each] for each in EXCHANGES.values()), seen
    data = "".join(capture.read("-Y", "esp", "-T", "fields", "-e", "esp.contained_data", newer=True).split())
    assert data.count(MESSAGE.hex()) == 2 * ROUNDS
    packets = [frame for frame in capture.frames(newer=True) if "\nEncapsulating Security Payload\n" in frame]
    assert len(packets) >= 2 * ROUNDS
    assert [
        frame for frame in packets if "[correct]" not in frame.partition("\nEncapsulating Security Payload\n")[2]
    ] == []
    capture.keep_first_keys()
    found = [
        verdict for frame in capture.frames(newer=True) for kind, verdict in checksums(frame) if kind == INTERMEDIATE
    ]
    assert found and set(found) == {"correct"}


def checksums(frame: str) -> list[tuple[int, str]]:
    """Of an IKE message: its exchange, and what became of its tag."""
    exchange = re.search(r"Exchange type: .*\((\d+)\)", frame)
    if exchange is None or "Encrypted and Authenticated" not in frame:
        return []
    verdict = re.search(r"Integrity Checksum Data: .*\[(correct|incorrect)", frame)
    return [(int(exchange[1]), verdict[1] if verdict else "not looked at")]


@pytest.mark.parametrize("capture", [("datagram", "AES-GCM")], indirect=True)
def test_debian_12s_wireshark_opens_them_too(capture: Capture) -> None:
    """It knows no 64-bit sequence numbers, so that it opens packets and cannot verify them; IKE it does verify."""
    verdicts = Counter(each for frame in capture.frames(newer=False) for each in checksums(frame))
    assert {exchange for exchange, verdict in verdicts if verdict != "correct"} <= {INTERMEDIATE}
    assert verdicts[EXCHANGES["CREATE_CHILD_SA"], "correct"]
    data = "".join(capture.read("-Y", "esp", "-T", "fields", "-e", "esp.contained_data", newer=False).split())
    assert data.count(MESSAGE.hex()) == 2 * ROUNDS


@pytest.mark.parametrize("capture", [("datagram", "AES-GCM")], indirect=True)
def test_without_the_files_it_reads_nothing(capture: Capture) -> None:
    for name in (IKE_TABLE, "esp_sa"):
        (capture.folder / name).unlink()
    frames = capture.frames(newer=True)
    assert {verdict for frame in frames for _, verdict in checksums(frame)} == {"not looked at"}
    assert not any(MESSAGE[:18].hex() in frame for frame in frames)
