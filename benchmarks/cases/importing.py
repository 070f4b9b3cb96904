"""What `import securesock` costs beyond the modules that any program with TLS imports anyway."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.harness import Bound, Contest, case

_TIMED = "import time; started = time.perf_counter(); {}; print((time.perf_counter() - started) * 1000)"
_EVERYBODYS = "import ssl, asyncio, cryptography.x509"


def _took_ms(statement: str) -> float:
    """Milliseconds that a fresh interpreter takes for it."""
    # -I: neither the folder nor the environment of whoever runs this
    done = subprocess.run([sys.executable, "-I", "-c", _TIMED.format(statement)], check=True, capture_output=True)
    return float(done.stdout)


@case("import securesock", unit="ms", better="lower", rounds=15, bound=Bound("difference", at_most=50.0))
def importing() -> Iterator[Contest]:
    """What every program pays.  The difference is the cost; the ratio says little."""
    yield Contest(lambda: _took_ms("import securesock"), {_EVERYBODYS: lambda: _took_ms(_EVERYBODYS)})


@case(
    "import securesock, all names used", unit="ms", better="lower", rounds=15, bound=Bound("difference", at_most=50.0)
)
def importing_all() -> Iterator[Contest]:
    """What a program pays that uses sockets, identities and asyncio: most is imported when it is first used."""
    yield Contest(lambda: _took_ms("from securesock import *"), {_EVERYBODYS: lambda: _took_ms(_EVERYBODYS)})
