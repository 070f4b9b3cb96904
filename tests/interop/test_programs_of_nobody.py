"""Programs in namespaces run as user nobody: where it may not read them, whoever runs the tests is told so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.users import may_nobody_read
from tools import leftovers


@pytest.mark.needs_root
@pytest.mark.needs_program("setpriv")
def test_a_clone_in_a_closed_folder_is_none_that_nobody_may_read() -> None:
    with leftovers.folder("closed") as closed:
        program = closed / "clone" / "program.py"
        program.parent.mkdir()
        program.write_text("")
        assert not may_nobody_read(program)
        closed.chmod(0o711)
        assert may_nobody_read(program)
        assert not may_nobody_read(program, Path("/etc/shadow"))
