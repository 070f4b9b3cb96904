"""`make demo` on a machine that has nothing: a minimal Debian made for it, a clone inside, root and then nobody.

    python3 -m tools.fresh_check

debootstrap makes a system of python3, make, git and ca-certificates alone, from the package sources that this
machine itself is configured with; into it goes this clone's HEAD.  In there, in this order:
  nobody   make demo, which must end with one line that names python3-venv, because ensurepip is missing;
  root     make demo, which installs python3-venv and then must succeed;
  nobody   make demo in a clone of its own, which now must succeed.
DEMO_COMMAND puts another command in the place of `make demo` for the two that must succeed.

The package index is reached inside as it is here: pip's settings, its PIP_ variables, the certificates they name and
the local folders they point to are handed on.  Needs root, for chroot and mounts.  Everything lies in one temporary
folder and is gone afterwards, or at the next run's start if this one is killed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from tools import bootstrap, leftovers, system_packages

ROOT = Path(__file__).resolve().parent.parent
INCLUDED = ("python3", "make", "git", "ca-certificates")
NOBODY = "65534:65534"
DEMO_SECONDS = 600.0  # an installation from an index and a demo, on a slow day

_APT_SOURCE = re.compile(r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)$")
_PIP_SETTING = re.compile(r"^(?P<section>[a-z-]+)\.(?P<key>[a-z-]+)='(?P<value>.*)'$")
# What tells programs where a proxy is and whom to trust. Their values go into the new system's environment only.
_NETWORK_VARIABLES = re.compile(r"^(?:PIP_\w+|SSL_CERT_FILE|REQUESTS_CA_BUNDLE|(?:https?|all|no)_proxy)$", re.I)


class AptSource(NamedTuple):
    """Where packages come from: a mirror and the suites that it is used for."""

    uri: str
    suites: tuple[str, ...]
    signed_by: str


def read_one_line_sources(text: str) -> Iterator[AptSource]:
    """The deb lines of a *.list file (sources.list(5), one-line style)."""
    for line in text.splitlines():
        if found := _APT_SOURCE.match(line.strip()):
            options = dict(part.split("=", 1) for part in (found["options"] or "").split() if "=" in part)
            yield AptSource(found["uri"], (found["suite"],), options.get("signed-by", ""))


def read_deb822_sources(text: str) -> Iterator[AptSource]:
    """The enabled deb stanzas of a *.sources file (sources.list(5), deb822 style)."""
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t"):
                fields[key] = f"{fields.get(key, '')} {line.strip()}"
            elif ":" in line:
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() != "no":
            for uri in fields.get("uris", "").split():
                yield AptSource(uri, tuple(fields.get("suites", "").split()), fields.get("signed-by", ""))


def apt_sources(etc_apt: Path) -> list[AptSource]:
    """Every source that apt on this machine uses."""
    sources: list[AptSource] = []
    for path in (etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*"))):
        if path.is_file() and path.suffix == ".list":
            sources += read_one_line_sources(path.read_text())
        elif path.suffix == ".sources":
            sources += read_deb822_sources(path.read_text())
    return sources


def mirror_for(codename: str, sources: list[AptSource]) -> AptSource:
    """The source that has the release itself, not only its updates."""
    for source in sources:
        if codename in source.suites:
            return source
    sys.exit(f"no package source under /etc/apt has the release {codename!r}")


def codename_of(os_release: str) -> str:
    """VERSION_CODENAME of os-release(5)."""
    found = re.search(r"^VERSION_CODENAME=\"?([a-z-]+)\"?$", os_release, flags=re.MULTILINE)
    return found[1] if found else sys.exit("/etc/os-release names no release; is this Debian?")


class PipSettings(NamedTuple):
    """What pip on this machine is told, as far as files say it, and by its environment."""

    settings: dict[tuple[str, str], str]
    environment: dict[str, str]

    def values(self) -> Iterator[str]:
        """Every single word of every value."""
        for value in (*self.settings.values(), *self.environment.values()):
            yield from value.split()

    def as_file(self) -> str:
        """All of it that came from files, as one pip.conf."""
        sections: dict[str, list[str]] = {}
        for (section, key), value in self.settings.items():
            sections.setdefault(section, []).append(f"{key} = {value}")
        return "".join("[{}]\n{}\n".format(name, "\n".join(lines)) for name, lines in sections.items())

    def folders(self) -> list[Path]:
        """Local folders that hold packages; the parent of an index, whose pages point beside it."""
        found = set[Path]()
        for word in self.values():
            is_url = word.startswith("file://")
            path = Path(unquote(urlsplit(word).path)) if is_url else Path(word)
            if path.is_absolute() and path.is_dir():
                has_room = is_url and len(path.parents) > 1
                found.add(path.parent if has_room else path)
        return sorted(path for path in found if not found & set(path.parents))

    def files(self) -> list[Path]:
        """Files that are named: certificates."""
        return sorted({Path(word) for word in self.values() if word.startswith("/") and Path(word).is_file()})


def read_pip_settings(listed: str, environment: dict[str, str]) -> PipSettings:
    """From the output of `pip config list` and an environment."""
    found = (_PIP_SETTING.match(line) for line in listed.splitlines())
    settings = {(each["section"], each["key"]): each["value"] for each in found if each}
    return PipSettings(settings, {key: value for key, value in environment.items() if _NETWORK_VARIABLES.match(key)})


class FreshSystem:
    """A root folder with a system in it; ``run`` runs a command inside."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        self._environment = environment

    def inside(self, path: Path) -> Path:
        """Where a path of the new system lies on this one."""
        return self.root / path.relative_to("/")

    def copy(self, path: Path) -> None:
        """A file of this machine at the same place in there."""
        target = self.inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(path, target)

    def show(self, folder: Path) -> None:
        """A folder of this machine, read-only at the same place in there."""
        target = self.inside(folder)
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", folder, target], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", target], check=True)

    def run(self, command: str, user: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
        """A shell command as a user; neither input nor environment of this program reaches it."""
        settings = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"}
        return subprocess.run(
            ["chroot", f"--userspec={user}", "--groups=", self.root, "sh", "-euc", command],
            env=settings | self._environment,  # not on the command line: an index's address may hold a password
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.STDOUT if capture else None,
            text=True,
            timeout=DEMO_SECONDS,
        )


def make_system(root: Path, pip: PipSettings) -> FreshSystem:
    """debootstrap, then what connects the new system: package sources, pip's settings, name servers, /proc."""
    codename = codename_of(Path("/etc/os-release").read_text())
    mirror = mirror_for(codename, apt_sources(Path("/etc/apt")))
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}"]
    if mirror.signed_by.startswith("/"):
        command.append(f"--keyring={mirror.signed_by}")
    print(f"debootstrap: a minimal {codename}", flush=True)
    log = root.with_name("debootstrap.log")
    with log.open("w") as output:
        done = subprocess.run([*command, codename, root, mirror.uri], check=False, stdout=output, stderr=output)
    if done.returncode:
        sys.exit(f"{log.read_text()}\ndebootstrap failed; its words are above")
    system = FreshSystem(root, pip.environment)
    system.inside(Path("/etc/apt/sources.list")).unlink(missing_ok=True)  # debootstrap's own; ours come instead
    for path in _apt_configuration():
        system.copy(path)
    for path in (Path("/etc/resolv.conf"), Path("/etc/hosts"), *pip.files()):
        system.copy(path)
    system.inside(Path("/etc/pip.conf")).write_text(pip.as_file())
    for folder in pip.folders():
        system.show(folder)
    subprocess.run(["mount", "-t", "proc", "proc", system.root / "proc"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", system.root / "dev" / "shm"], check=True)
    return system


def _apt_configuration() -> Iterator[Path]:
    """Package sources with their keys and credentials, and settings of how to fetch; no hooks of this machine."""
    apt = Path("/etc/apt")
    for pattern in ("sources.list", "sources.list.d/*", "trusted.gpg.d/*", "auth.conf", "auth.conf.d/*"):
        yield from (path for path in sorted(apt.glob(pattern)) if path.is_file())
    for path in sorted((apt / "apt.conf.d").glob("*")):
        lines = [line.strip() for line in path.read_text().splitlines()] if path.is_file() else []
        if lines and all(not line or line.startswith(("//", "#", "Acquire::")) for line in lines):
            yield path
    for source in apt_sources(apt):
        if source.signed_by.startswith("/"):
            yield Path(source.signed_by)


def put_clone(system: FreshSystem) -> None:
    """This clone's HEAD, as a bundle that everybody in there can clone."""
    git("bundle", "create", "--quiet", str(system.root / "srv" / "securesock.bundle"), "HEAD")
    for owner in ("root", "nobody"):
        (system.root / "srv" / owner).mkdir()
    os.chown(system.root / "srv" / "nobody", 65534, 65534)


def git(*arguments: str) -> str:
    """What git says about this clone, whoever it belongs to."""
    command = ["git", "-c", f"safe.directory={ROOT}", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def check_demo(system: FreshSystem, demo: str) -> list[str]:
    """Run the three demos; what of it was not as it should be."""
    problems: list[str] = []
    clone = (
        "cd /srv/{0} && rm -rf securesock && "
        "git -c advice.detachedHead=false clone --quiet ../securesock.bundle securesock && cd securesock && {1}"
    )
    refused = system.run(clone.format("nobody", "make demo"), NOBODY, capture=True)
    explained = [line for line in refused.stdout.splitlines() if "python3-venv" in line]
    if refused.returncode == 0 or len(explained) != 1:
        problems.append(f"nobody, without ensurepip: no one line that names python3-venv\n{refused.stdout}")
    for owner, user in (("root", "0:0"), ("nobody", NOBODY)):
        print(f"\n== {owner}: {demo}", flush=True)
        try:
            done = system.run(clone.format(owner, demo), user)
        except subprocess.TimeoutExpired:
            problems.append(f"{owner}: {demo} took more than {DEMO_SECONDS:.0f} s")
            continue
        if done.returncode:
            problems.append(f"{owner}: {demo} ended with status {done.returncode}")
    return problems


def main() -> int:
    """Make the system, run the demos, take it away; 0 when all was as it should be."""
    if os.geteuid() != 0:
        sys.exit("fresh-check needs root: it makes a Debian of its own with debootstrap and chroot")
    leftovers.remove_of_dead_runs()
    if system_packages.find_program("debootstrap") is None:
        system_packages.install_or_explain(["debootstrap"], why="fresh-check makes a minimal Debian")
    bootstrap.install("run")
    listed = subprocess.run(
        [bootstrap.PYTHON, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    )
    pip = read_pip_settings(listed.stdout, dict(os.environ))
    demo = os.environ.get("DEMO_COMMAND") or "make demo"
    if git("status", "--porcelain"):
        print("what is not committed is not part of this check", file=sys.stderr)
    # /var/tmp: a system of 300 MB is nothing for a /tmp in memory
    with leftovers.folder("fresh", parent=Path("/var") / "tmp") as folder:
        system = make_system(folder / "system", pip)
        put_clone(system)
        problems = check_demo(system, demo)
    print()
    for problem in problems:
        print(problem)
    print("fresh-check:", "failed" if problems else f"as root and as nobody this succeeds: {demo}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
