"""The rules of the house that a machine can check; CONTRIBUTING.md says why each of them is there.

    python -m tools.house_rules

Each rule is one function that yields what breaks it.  Rules look at syntax trees and tokens, so that a word inside
a string that a rule itself needs does not count.  There is no way to excuse a line: a rule that turns out wrong is
changed here, with its reason.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

MAX_FUNCTION_LINES = 80  # what fits on a screen; aim at 60
MAX_MODULE_LINES = 800  # aim at 500
_BROAD = frozenset({"Exception", "BaseException"})
# The last word of a name that holds an authentication tag: comparing one with == tells its bytes by time.
_TAG_WORDS = frozenset({"mac", "hmac", "tag", "icv", "verifier"})
_VAGUE_MODULES = frozenset({"utils", "util", "helpers", "helper", "common", "manager", "misc"})
# Names that socket, asyncio, typer or Windows give and we implement.
_GIVEN_NAMES = frozenset(
    {
        "get_inheritable",
        "get_buffer",
        "get_extra_info",
        "get_protocol",
        "get_write_buffer_limits",
        "get_write_buffer_size",
        "get_loop",
    }
)
_UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
_EXCUSES = re.compile(r"#\s*(type:\s*ignore|pyright:|noqa|ruff:\s*noqa|pragma:|mypy:)")
# Machines are told the time and given their randomness; they own no socket, thread or loop.
_NO_IO = frozenset(
    {"asyncio", "random", "secrets", "select", "selectors", "socket", "ssl", "subprocess", "threading", "time"}
)
_LAYERS_WITHOUT_IO = ("wire", "crypto", "sad", "keying", "policy/negotiation.py", "planes/userspace")
# Folders of people and build machines have no place in a repository; spelled in parts so as not to find themselves.
_PLACES = re.compile(r"(?<![\w.])/(?:{})/".format("|".join(("work", "farm", "root", "home/[a-z]+"))))


class Breach(NamedTuple):
    """A rule that is broken, and where."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class Module(NamedTuple):
    """A Python file of the repository, read once for all rules."""

    path: Path
    text: str
    tree: ast.Module
    comments: list[tuple[int, str]]
    nodes: list[ast.AST]  # all of the tree: every rule looks at them, so they are walked to once

    @property
    def area(self) -> str:
        """The folder under the root: "src", "tests", "tools" ..."""
        return self.path.parts[0]


def read_module(path: Path, text: str) -> Module:
    """Parse a module; ``path`` is relative to the root."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    tree = ast.parse(text)
    return Module(path, text, tree, comments, list(ast.walk(tree)))


def sizes(module: Module) -> Iterator[Breach]:
    """Modules and functions that can be read in one go."""
    lines = module.text.count("\n")
    if lines > MAX_MODULE_LINES:
        yield Breach(module.path, 1, f"{lines} lines; a module has at most {MAX_MODULE_LINES}")
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield Breach(module.path, node.lineno, f"{node.name} has {length} lines; at most {MAX_FUNCTION_LINES}")


def no_asserts(module: Module) -> Iterator[Breach]:
    """An assert is gone under -O, and so would be what it kept out."""
    for node in module.nodes:
        if module.area == "src" and isinstance(node, ast.Assert):
            yield Breach(module.path, node.lineno, "assert in src; raise, or let the types say it")


def no_broad_excepts(module: Module) -> Iterator[Breach]:
    """A handler for everything hides the defect that nobody thought of."""
    for node in module.nodes:
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if any(each is None or (isinstance(each, ast.Name) and each.id in _BROAD) for each in caught):
            yield Breach(module.path, node.lineno, "except for everything; name what is expected")


def nothing_unfinished_or_excused(module: Module) -> Iterator[Breach]:
    """What is not done is not landed, and what a tool objects to is mended."""
    for line, comment in module.comments:
        if _UNFINISHED.search(comment) or _EXCUSES.search(comment):
            yield Breach(module.path, line, f"unfinished or excused: {comment.strip()}")
    for node in module.nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if _UNFINISHED.search(ast.get_docstring(node, clean=False) or ""):
                yield Breach(module.path, getattr(node, "lineno", 1), "unfinished, says the docstring")
        elif isinstance(node, ast.Name) and node.id == "NotImplementedError":
            yield Breach(module.path, node.lineno, "NotImplementedError; build it or leave it out")


def tags_in_constant_time(module: Module) -> Iterator[Breach]:
    """Authentication tags are compared with hmac.compare_digest alone.  (An ASN.1 tag is compared with one byte.)"""
    for node in module.nodes:
        if module.area != "src" or not isinstance(node, ast.Compare):
            continue
        operands = [node.left, *node.comparators]
        if any(_is_number(operand) for operand in operands):
            continue
        if any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops):
            for operand in operands:
                name = operand.id if isinstance(operand, ast.Name) else getattr(operand, "attr", "")
                if name.lower().split("_")[-1] in _TAG_WORDS:
                    yield Breach(module.path, node.lineno, f"{name} compared with ==; use hmac.compare_digest")


def _is_number(node: ast.expr) -> bool:
    """A number as written, or one byte taken out of bytes."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int)
    return isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice)


def plain_names(module: Module) -> Iterator[Breach]:
    """A name says what the thing is for."""
    if module.path.stem in _VAGUE_MODULES or _VAGUE_MODULES & set(module.path.parts):
        yield Breach(module.path, 1, "a module's name says what it is for")
    for node in module.nodes:
        if module.area != "src" or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("get_") and node.name not in _GIVEN_NAMES:
            yield Breach(module.path, node.lineno, f"{node.name}: say what it does or is, not get_")


def no_any_in_public(module: Module) -> Iterator[Breach]:
    """What an application is handed has a type that its checker can use."""
    for node in module.nodes:
        if module.area != "src" or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        annotations = [node.returns, *(each.annotation for each in every if each)]
        named_any = any(
            isinstance(inner, ast.Name) and inner.id == "Any"
            for annotation in annotations
            if annotation
            for inner in ast.walk(annotation)
        )
        if named_any and not node.name.startswith("_"):
            yield Breach(module.path, node.lineno, f"Any in the signature of {node.name}")


def machines_without_io(module: Module) -> Iterator[Breach]:
    """No clock, socket, thread or randomness below the drivers: the same inputs give the same bytes."""
    inside = module.path.as_posix().removeprefix("src/securesock/")
    if module.area != "src" or not inside.startswith(_LAYERS_WITHOUT_IO):
        return
    # One thread may send while another receives: the stream plane holds a lock, though it starts no thread.
    forbidden = _NO_IO - {"threading"} if inside.startswith("planes/") else _NO_IO
    for line, name in _imports_from_outside(module):
        if name.split(".")[0] in forbidden:
            yield Breach(module.path, line, f"{name} imported where nothing owns a clock, socket or thread")


def _imports_from_outside(module: Module) -> Iterator[tuple[int, str]]:
    """The absolute names that a module imports, with their lines."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module or ""


def parts_not_the_whole(module: Module) -> Iterator[Breach]:
    """Inside the package a module imports from the module that defines a name, so that importing stays cheap."""
    if module.area != "src" or module.path.as_posix().startswith(("src/securesock/cli", "src/securesock/testing")):
        return
    for line, name in _imports_from_outside(module):
        if name == "securesock":
            yield Breach(module.path, line, "import from the module that defines the name")


def tests_do_not_wait_or_give_up(module: Module) -> Iterator[Breach]:
    """A test that sleeps is slow or wrong, and one that is expected to fail tests nothing."""
    if module.area not in ("tests", "src"):
        return
    for node in module.nodes:
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
            if (owner, node.attr) == ("time", "sleep"):
                yield Breach(module.path, node.lineno, "time.sleep; wait for the thing itself")
            if (owner, node.attr) in {("mark", "xfail"), ("pytest", "xfail"), ("mark", "skip")}:
                yield Breach(module.path, node.lineno, f"{node.attr}: mend it or leave it out")


def tests_can_fail(module: Module) -> Iterator[Breach]:
    """A test function asserts, expects an exception, or calls something in its module that does."""
    if module.area != "tests" or not module.path.name.startswith("test_"):
        return
    functions = [node for node in module.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    judging = {function.name for function in functions if _judges(function, set())}
    while more := {function.name for function in functions if _judges(function, judging)} - judging:
        judging |= more
    for function in functions:
        if function.name.startswith("test") and function.name not in judging:
            yield Breach(module.path, function.lineno, f"{function.name} cannot fail")


def _judges(function: ast.AST, judging: set[str]) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert | ast.Raise):
            return True
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if (
                name in judging
                or name in {"raises", "fail", "warns"}
                or name.startswith(("assert_", "check_", "expect_"))
            ):
                return True
    return False


RULES = (
    sizes,
    no_asserts,
    no_broad_excepts,
    nothing_unfinished_or_excused,
    tags_in_constant_time,
    plain_names,
    no_any_in_public,
    machines_without_io,
    parts_not_the_whole,
    tests_do_not_wait_or_give_up,
    tests_can_fail,
)


def no_places(path: Path, text: str) -> Iterator[Breach]:
    """Nothing in the repository knows the machine on which it was written."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := _PLACES.search(line):
            yield Breach(path, number, f"a place on somebody's machine: {found[0]}")
        if path.suffix == ".lock" and "://" in line:
            yield Breach(path, number, "an address in a lock file; where from is pip's configuration")


def repository_files() -> list[Path]:
    """What is committed or would be, relative to the root."""
    # git refuses a clone that belongs to somebody else, as it may where a build machine made it, unless told so.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file())


def breaches() -> Iterator[Breach]:
    """Everything that breaks a rule."""
    for path in repository_files():
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a capture or a key in binary form
        yield from no_places(path, text)
        if path.suffix == ".py":
            module = read_module(path, text)
            for rule in RULES:
                yield from rule(module)


def main() -> int:
    """Print every breach; 0 when there is none."""
    found = list(breaches())
    for breach in found:
        print(breach)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
