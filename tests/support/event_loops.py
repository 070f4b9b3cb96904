"""Asynchronous tests on every event loop there is, each in debug mode, with nothing left unheard: asyncio's own, and
uvloop; on Windows, which has no uvloop, asyncio's two: the proactor and the selector.

    @on_every_loop
    async def test_something(tmp_path): ...

A test fails when the loop was told of an exception that nobody handled, and after ``LIMIT_S``.

A loop in debug mode keeps with every callback the stack that scheduled it, for its messages alone, and two thirds of
the time of a test of thousands go into that.  SECURESOCK_LOOP_STACKS=1 has them back; what debug mode checks is checked
without.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import pytest

LIMIT_S = 30.0
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if sys.platform == "win32":
    LOOPS["selector"] = asyncio.SelectorEventLoop
else:
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop
    # libuv opens a pipe for signals with its first loop and keeps it for the process: no test is to blame for it
    uvloop.new_event_loop().close()


def run(new_loop: Callable[[], asyncio.AbstractEventLoop], body: Callable[[], Awaitable[None]]) -> None:
    """Run ``body`` in a loop of its own."""
    unheard: list[dict[str, Any]] = []

    async def limited() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unheard.append(context))
        async with asyncio.timeout(LIMIT_S):
            await body()

    with asyncio.Runner(debug=True, loop_factory=new_loop) as runner, pytest.MonkeyPatch.context() as patch:
        if not os.environ.get("SECURESOCK_LOOP_STACKS"):
            patch.setattr(traceback.StackSummary, "extract", lambda *_, **__: traceback.StackSummary())
        with ExitStack() as failing:
            # What is left open by a failure is no news, and uvloop cannot close where warnings are errors.
            failing.callback(warnings.simplefilter, "ignore", ResourceWarning)
            runner.run(limited())
            failing.pop_all()
        gc.collect()  # what nobody awaited is told when it goes
    assert not unheard, unheard


def on_every_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make an ordinary test of an asynchronous one, for each loop."""

    @pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
    @functools.wraps(test)
    def on_loop(*args: object, new_loop: Callable[[], asyncio.AbstractEventLoop], **kwargs: object) -> None:
        run(new_loop, lambda: test(*args, **kwargs))

    signature = inspect.signature(test)
    added = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    on_loop.__signature__ = signature.replace(parameters=[*signature.parameters.values(), added])
    return on_loop
