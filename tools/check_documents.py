"""Documents that are true: links that lead somewhere, commands that exist, examples that run.

    python -m tools.check_documents

In every Markdown file of the repository
- a relative link leads to a file that is there, and its #anchor to a heading;
- `make x` names a target of the Makefile, and `securesock x` a command of the package;
- a path in backticks that starts with a folder of the repository exists;
- a fenced block marked ```python run is run, each file's blocks in order in one process of their own.
And every dependency of pyproject.toml, extras too, has its line in docs/dependencies.md, and no other has.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tools.house_rules import Breach, repository_files

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE_SECONDS = 60.0

_FENCE = re.compile(r"^```(?P<info>[^`]*)$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6}\s+(?P<title>.+?)\s*#*$")
_CODE = re.compile(r"`([^`]+)`")
_MAKE = re.compile(r"(?:^|\s)make (?P<target>[a-z][a-z-]*)")
_COMMAND = re.compile(r"(?:^|\s)securesock (?P<command>[a-z][a-z-]*(?: [a-z][a-z-]*)?)")
_PATH = re.compile(r"^(?:src|tests|tools|docs|examples|benchmarks|fuzz|requirements|\.ci)/[\w./-]*$")
_REQUIREMENT_NAME = re.compile(r"^[A-Za-z0-9._-]+")


class Block(NamedTuple):
    """A fenced block: the line of its fence, what stands after the backticks, and its text."""

    line: int
    info: str
    text: str


class Document(NamedTuple):
    """A Markdown file: its lines outside fences with their numbers, and its fenced blocks."""

    path: Path
    prose: list[tuple[int, str]]
    blocks: list[Block]


def read_document(path: Path, text: str) -> Document:
    """Tell prose from fenced blocks; ``path`` is relative to the root."""
    prose: list[tuple[int, str]] = []
    blocks: list[Block] = []
    opened: tuple[int, str] | None = None
    inside: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, inside = (number, fence["info"].strip()), []
        elif opened is not None and fence:
            blocks.append(Block(*opened, "\n".join(inside) + "\n"))
            opened = None
        elif opened is not None:
            inside.append(line)
        else:
            prose.append((number, line))
    return Document(path, prose, blocks)


def anchors(document: Document) -> set[str]:
    """The anchors of a document's headings, as code hosts make them: lower case, spaces to dashes, rest dropped."""
    titles = [found["title"] for _, line in document.prose if (found := _HEADING.match(line))]
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).strip().replace(" ", "-") for title in titles}


def check_links(document: Document, root: Path) -> Iterator[Breach]:
    """Relative links that lead nowhere."""
    for number, line in document.prose:
        for found in _LINK.finditer(_CODE.sub("", line)):
            target, _, anchor = found["target"].partition("#")
            if "://" in target or target.startswith("mailto:"):
                continue
            path = root / document.path.parent / target if target else root / document.path
            if not path.exists():
                yield Breach(document.path, number, f"the link to {target} leads nowhere")
            elif anchor and path.suffix == ".md" and anchor not in anchors(read_document(path, path.read_text())):
                yield Breach(document.path, number, f"{target or 'this file'} has no heading #{anchor}")


def commands(document: Document) -> Iterator[tuple[int, str]]:
    """Every piece of code in which a command may be named: backticks, and the lines of shell blocks."""
    for number, line in document.prose:
        yield from ((number, found) for found in _CODE.findall(line))
    for block in document.blocks:
        if block.info.split(" ")[0] in ("sh", "bash", "console", "shell"):
            lines = block.text.splitlines()
            yield from ((number, line.split("#")[0]) for number, line in enumerate(lines, block.line + 1))


def check_names(
    document: Document, root: Path, targets: set[str], has_command: Callable[[str], bool]
) -> Iterator[Breach]:
    """Targets, commands and paths that do not exist."""
    for number, code in commands(document):
        for found in _MAKE.finditer(code):
            if found["target"] not in targets:
                yield Breach(document.path, number, f"there is no make {found['target']}")
        for found in _COMMAND.finditer(code):
            if not has_command(found["command"]):
                yield Breach(document.path, number, f"there is no command securesock {found['command']}")
        if _PATH.match(code) and not (root / code).exists():
            yield Breach(document.path, number, f"{code} does not exist")


def makefile_targets(text: str) -> set[str]:
    """The names that stand before a colon at the start of a line."""
    return set(re.findall(r"^([a-z][a-z-]*):", text, flags=re.MULTILINE))


@cache
def _has_command(words: str) -> bool:
    """Whether the command line knows a command; a second word may be an argument, then the first decides."""
    program = Path(sys.executable).with_name("securesock")
    for attempt in (words.split(), words.split()[:1]):
        if subprocess.run([program, *attempt, "--help"], check=False, capture_output=True).returncode == 0:
            return True
    return False


def check_examples(document: Document) -> Iterator[Breach]:
    """Run the blocks marked to be run, one after the other in one process, warnings as errors."""
    blocks = [block for block in document.blocks if block.info.split() == ["python", "run"]]
    if not blocks:
        return
    # Blank lines keep the line numbers of a traceback those of the document.
    script = ""
    for block in blocks:
        script += "\n" * (block.line - script.count("\n")) + block.text
    command = [sys.executable, "-W", "error", "-c", script]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=EXAMPLE_SECONDS)
    except subprocess.TimeoutExpired:
        yield Breach(document.path, blocks[0].line, f"the examples took more than {EXAMPLE_SECONDS:.0f} s")
        return
    if done.returncode:
        yield Breach(document.path, blocks[0].line, f"an example failed:\n{done.stderr}")


def check_dependencies(pyproject: str, document: str) -> Iterator[Breach]:
    """A run-time dependency without its reason, or a reason without its dependency."""
    path = Path("docs/dependencies.md")
    declared = set[str]()
    project = tomllib.loads(pyproject)["project"]
    extras = project.get("optional-dependencies", {}).values()
    for requirement in (*project["dependencies"], *(each for extra in extras for each in extra)):
        if found := _REQUIREMENT_NAME.match(requirement):
            declared.add(found[0].lower())
    run_time = document.partition("\n## Development")[0]
    explained = {name.lower() for name in re.findall(r"^\| `([^`]+)` \|", run_time, flags=re.MULTILINE)}
    for name in sorted(declared ^ explained):
        where = "is not explained" if name in declared else "is explained and not declared"
        yield Breach(path, 1, f"the dependency {name} {where}")


def breaches() -> Iterator[Breach]:
    """Everything in the documents that is not so."""
    targets = makefile_targets((ROOT / "Makefile").read_text())
    for path in repository_files():
        if path.suffix == ".md":
            document = read_document(path, (ROOT / path).read_text())
            yield from check_links(document, ROOT)
            yield from check_names(document, ROOT, targets, _has_command)
            yield from check_examples(document)
    dependencies = ROOT / "docs" / "dependencies.md"
    yield from check_dependencies((ROOT / "pyproject.toml").read_text(), dependencies.read_text())


def main() -> int:
    """Print every breach; 0 when there is none."""
    found = list(breaches())
    for breach in found:
        print(breach)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
