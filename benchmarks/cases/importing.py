"""What `import securesock` costs beyond the modules that any program with TLS imports anyway."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.harness import Bound, Contest, case

_TIMED = "import time; started = time.perf_counter(); import {}; print((time.perf_counter() - started) * 1000)"


def _import_ms(modules: str) -> float:
    """Milliseconds that a fresh interpreter takes to import them."""
    # -I: neither the folder nor the environment of whoever runs this
    done = subprocess.run([sys.executable, "-I", "-c", _TIMED.format(modules)], check=True, capture_output=True)
    return float(done.stdout)


@case("import securesock", unit="ms", better="lower", rounds=15, bound=Bound("difference", at_most=50.0))
def importing() -> Iterator[Contest]:
    """The difference is the cost; the ratio says little."""
    yield Contest(
        lambda: _import_ms("securesock"),
        {"import ssl, asyncio, cryptography.x509": lambda: _import_ms("ssl, asyncio, cryptography.x509")},
    )
