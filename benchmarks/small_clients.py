"""This process's side of the small benchmarks: a server of each kind, and how a client of that kind connects to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final

import securesock
from benchmarks.bulk_contexts import SERVER_NAME, our_context, tls_context

KINDS: Final = {"ours": "", "tls": "ssl (TLS 1.3)", "plain": "plain TCP"}


class Server:
    """A process of benchmarks.small_servers; a context manager."""

    def __init__(self, folder: Path, task: str, kind: str) -> None:
        command = [sys.executable, "-m", "benchmarks.small_servers", str(folder), task, kind]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._folder = folder
        self._kind = kind
        self._ours = our_context(folder, "client")
        self._tls = tls_context(folder, "client")
        self.port = int(self._line())

    def _line(self) -> str:
        if self._process.stdout is None or not (line := self._process.stdout.readline()):
            raise RuntimeError(f"the {self._kind} server ended without a word")
        return line

    def keep_to(self, core: int) -> None:
        """Have it run on this core alone, all threads that there are."""
        for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})

    def resident_kib(self) -> int:
        """What it holds in memory now."""
        if self._process.stdin is None:
            raise RuntimeError("the server has no input")
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._line())

    def connect(self) -> socket.socket:
        """A connection to it, proven where the kind proves anything."""
        address = ("127.0.0.1", self.port)
        if self._kind == "ours":
            return securesock.create_connection(address, peer=f"host/{SERVER_NAME}", context=self._ours)
        plain = socket.create_connection(address)
        # ours has it from the beginning; without it the others' first answers wait 40 ms for an acknowledgement
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._tls.wrap_socket(plain, server_hostname=SERVER_NAME) if self._kind == "tls" else plain

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
