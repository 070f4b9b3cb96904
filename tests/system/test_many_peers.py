"""The rig of `make bench` for very many peers, with a few: nothing here is a matter of speed."""

from __future__ import annotations

import sys

import pytest

from benchmarks.cases.many_peers import Holder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peers' addresses are Linux's 127.0.0.0/8")


def test_a_process_holds_many_peers_and_says_what_they_cost() -> None:
    holder = Holder(90)
    try:
        assert holder.ask("memory") > 0
        assert holder.ask("90") > 0
        assert holder.ask("10") > 0
    finally:
        holder.close()
