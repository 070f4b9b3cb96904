"""Our side of a conversation with a standard IPsec host: in transport mode beside it, in tunnel mode what is behind it.

The host is b.test at 10.90.0.2; we are a.test at 10.90.0.1, and 10.91.0.1 inside of a tunnel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any, Final, Literal

from tests.interop.certificates import Proofs
from tests.interop.combinations import FULL
from tests.interop.network import OUR_HOST, PEER_HOST, Namespaces, ip
from tests.interop.strongswan import wait_until
from tests.interop.users import SecuredUser, asked_plainly, secured_user

Mode = Literal["transport", "tunnel"]

SECRET: Final = "a secret of more than sixteen bytes"
INNER: Final = "10.91.0.1"
BEHIND: Final = "10.92.0.1"
NETWORK: Final = "10.92.0.0/24"
ECHO: Final = 7
SIZES: Final = [0, 1, 100, 1000, 1300]
NO_FAULT: Final = {"unexpected-reply", "unknown-spi"}
"""A question of IKE's that was asked again, because a CPU is slow, and answered twice; a packet under a new SA that its
peer sealed before it answered our CREATE_CHILD_SA (libreswan installs first), when nobody here has the keys yet."""
AS_IT_SHOULD_BE: Final = ("host/b.test", set[str]())
SAS: Final = ("main_mode_sa_id", "quick_mode_sa_id")


def seconds(of_a_choice: float) -> float:
    """The time of a file that runs combinations: of the pairwise choice, or six times that for all with all."""
    return of_a_choice * (6 if os.environ.get(FULL) else 1)


def echo_at(mode: Mode) -> list[Any]:
    """Where the ordinary echo program is."""
    return [PEER_HOST if mode == "transport" else BEHIND, ECHO]


def script(mode: Mode, proofs: Proofs | str = SECRET, **values: Any) -> dict[str, Any]:
    """What our_socket.py is told of itself and of the host."""
    entry: dict[str, Any] = {"peer": "b.test"}
    if mode == "transport":
        entry |= {"networks": [f"{PEER_HOST}/32"], "mode": "transport", "carrier": "4500"}
    else:
        entry |= {"networks": [NETWORK], "gateway": PEER_HOST, "inner": INNER}
    ours = {"secret": proofs} if isinstance(proofs, str) else proofs.ours
    return {"peers": [entry], "timeout": 30.0} | ours | values


def furnish(namespace: str, mode: Mode) -> None:
    """The address behind the host, and its way to ours inside."""
    if mode == "tunnel":
        ip("-n", namespace, "addr", "add", f"{BEHIND}/32", "dev", "lo")
        ip("-n", namespace, "route", "add", f"{INNER}/32", "via", OUR_HOST, "src", BEHIND)


def ask_until_replaced(
    user: SecuredUser, mode: Mode, sas: Collection[str], cause: Callable[[], object] = lambda: None
) -> None:
    """Ask the echo program and go on until these SAs are others; every question is answered, if not the first time."""
    before = user.ask("security", echo_at(mode))
    cause()

    def replaced() -> bool:
        user.ask("reach", echo_at(mode), 20)
        now = user.ask("security", echo_at(mode))
        return all(now[sa] != before[sa] for sa in sas)

    wait_until(replaced, f"of {sas} one was never replaced")


def they_begin_and_ask(namespaces: Namespaces, mode: Mode, begin: Callable[[], object]) -> str:
    """The host begins, and an ordinary program on its side asks our socket; whom that socket names."""
    ours = script(mode, bind=[OUR_HOST, 4500])
    # in transport mode the port that IKE comes to is the application's too: there is no other inside
    from_host, to_host, port = (PEER_HOST, OUR_HOST, 4500) if mode == "transport" else (BEHIND, INNER, 7000)
    if mode == "tunnel":
        ours["peers"][0]["inner_port"] = port
    with secured_user(namespaces.ours, ours) as user:
        begin()
        sizes = [10, 1000, 1300]
        user.begin("serve", len(sizes))
        assert asked_plainly(namespaces.peers, from_host, to_host, port, sizes) == sizes
        senders = user.take()
        info = user.ask("security", senders[0])
    assert {sender[0] for sender in senders} == {from_host}
    return str(info["peer_machine"]["name"])


def judged(user: SecuredUser, mode: Mode, besides: Collection[str] = ()) -> tuple[str, set[str]]:
    """Who the host has proven to be, and what was counted that is strange; ``besides`` is not, with this host."""
    counted = set(user.ask("refusals")) - NO_FAULT - set(besides)
    return user.ask("security", echo_at(mode))["peer_machine"]["name"], counted
