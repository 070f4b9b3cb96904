"""securesock identity: gives machines identities, for those who have no authority of their own.

Thin: everything that it does is in identity/folder.py.  It prints what was done and what to do on the next machine,
and never a key.
"""

from __future__ import annotations

import platform
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ..identity.certificates import label_of, pin_of
from ..identity.configured import config_file, load_identity, own_config_file
from ..identity.folder import (
    LIST_DAYS,
    MACHINE_DAYS,
    Bundle,
    IdentityFolder,
    TrustedAuthority,
    TrustedList,
    folder_name,
    names_of,
)
from ..identity.identity import Identity
from ..identity.names import parse_peer_target_name
from ..types import Json
from .output import AsJson, emit

__all__ = ["register"]

commands = typer.Typer(help="Give machines identities: a private authority and its certificates.", no_args_is_help=True)

Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="host/NAME or NAME, an IP address, spiffe://..., user@realm"),
]
Days = Annotated[int, typer.Option("--days", min=1, help="For how long the certificate is valid.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(commands, name="identity")


@commands.command("init")
def init(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="This machine's names; its host name if none is given.", show_default=False
        ),
    ] = None,
    authority_name: Annotated[
        str | None, typer.Option("--authority-name", help="What the private authority is called.", show_default=False)
    ] = None,
    permit: Annotated[
        list[str] | None,
        typer.Option("--permit", metavar="DOMAIN|NETWORK", help="Limit the authority to these names (repeatable)."),
    ] = None,
    days: Days = MACHINE_DAYS,
    as_json: AsJson = False,
) -> None:
    """Make a private authority and this machine's certificate."""
    names = names or [platform.node()]
    authority_name = authority_name or f"securesock of {folder_name(names[0])[:50]}"
    folder = IdentityFolder.of(own_config_file())
    bundle = folder.init(names, authority_name, _now(), permitted=permit or (), days=days)
    emit(
        {**_describe(bundle), "next": ["securesock identity issue NAME"]},
        [
            f"This machine is {', '.join(bundle.names)}, until {bundle.not_after:%Y-%m-%d}.",
            f"Its keys and those of the new private authority are in {bundle.folder}; keep that folder to yourself.",
            f"Its own key, for those who pin it: {bundle.pin}",
            "",
            "Next, here, for every other machine by its name:",
            "    securesock identity issue NAME",
            "It makes a folder and says how to take it to that machine.",
        ],
        as_json,
    )


@commands.command("issue")
def issue(
    names: Names,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to make; by default NAME, here.", show_default=False)
    ] = None,
    days: Days = MACHINE_DAYS,
    as_json: AsJson = False,
) -> None:
    """Make the identity of another machine, in a folder to take there."""
    bundle = IdentityFolder.of(own_config_file()).issue(names, out or Path(folder_name(names[0])), _now(), days=days)
    target = parse_peer_target_name(names[0])
    host = target.principal.removeprefix("host/") if target.form in ("fqdn", "address") else "HOST"
    folder = shlex.quote(str(bundle.folder))
    copy = f"scp -pr {folder} {host}:.config/securesock"
    emit(
        {**_describe(bundle), "next": [copy, "securesock identity show"]},
        [
            f"{bundle.folder} holds the identity of {', '.join(bundle.names)}, until {bundle.not_after:%Y-%m-%d}.",
            "",
            "Next: take it to that machine, as the configuration folder of the user whose programs will use it:",
            f"    {copy}",
            f"    rm -r {folder}",
            "and there (SECURESOCK_CONFIG=FOLDER names another place):",
            "    securesock identity show",
        ],
        as_json,
    )


@commands.command("show")
def show(as_json: AsJson = False) -> None:
    """Show who this machine is and whom it trusts."""
    path = config_file()
    identity = load_identity(path)
    anchors = _describe_anchors(identity)
    own: dict[str, Json] = {"method": identity.method, "names": list(identity.names), "configuration": str(path)}
    lines = [
        f"names          {', '.join(identity.names)}",
        f"proven by      {identity.method}",
        f"configuration  {path}",
    ]
    certificate = identity.certificate
    if certificate is not None:
        own |= {
            "serial": f"{certificate.serial_number:x}",
            "fingerprint": identity.fingerprint,
            "pin": identity.pin,
            "not_before": certificate.not_valid_before_utc.isoformat(),
            "not_after": certificate.not_valid_after_utc.isoformat(),
        }
        lines += [
            f"valid          {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
            + _warning(certificate.not_valid_after_utc),
            f"serial         {certificate.serial_number:x}",
            f"fingerprint    {identity.fingerprint}",
            f"pin            {identity.pin}",
        ]
    own["peers"] = [*identity.shared_key_peers]
    lines += [f"shares a secret with {name}" for name in identity.shared_key_peers]
    for anchor in anchors:
        lines.append(f"trusts         {anchor['subject']}, until {str(anchor['not_after'])[:10]}; {anchor['pin']}")
        if anchor["revoked"] is not None:
            lines.append(f"               {anchor['revoked']} revoked by its list of {str(anchor['list_from'])[:10]}")
    emit({**own, "trust": list(anchors)}, lines, as_json)


@commands.command("trust")
def trust(
    file: Annotated[Path, typer.Argument(help="An authority's certificate, or its revocation list (PEM or DER).")],
    as_json: AsJson = False,
) -> None:
    """Trust an authority, or take its newer revocation list into use."""
    lines: list[str] = []
    authorities: list[Json] = []
    lists: list[Json] = []
    for each in IdentityFolder.of(config_file()).trust(file):
        match each:
            case TrustedAuthority():
                file_name = str(each.file)
                authorities.append({"subject": each.subject, "pin": each.pin, "file": file_name, "new": each.is_new})
                lines.append(f"{'trusted now' if each.is_new else 'trusted before'}: {each.subject}")
                lines.append(f"    its key is {each.pin}:")
                lines.append("    compare that with the authority's owner, by another way than the file came")
            case TrustedList():
                lists.append({"issuer": each.issuer, "file": str(each.file), "revoked": each.revoked})
                lines.append(f"obeyed from now on: the list of {each.issuer}, with {each.revoked} revoked")
    emit({"authorities": authorities, "lists": lists}, [*lines, _RESTART], as_json)


@commands.command("revoke")
def revoke(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|SERIAL]", help="Whom; without it the list is signed anew.", show_default=False),
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, help="For how long the list counts as current.")] = LIST_DAYS,
    as_json: AsJson = False,
) -> None:
    """Revoke what the authority here has issued for a name, and sign its revocation list anew."""
    folder = IdentityFolder.of(own_config_file())
    revoked = folder.revoke(name, _now(), days=days)
    file = folder.path / "authority.crl"
    entries: list[Json] = [{"serial": f"{each.serial_number:x}", "names": list(names_of(each))} for each in revoked]
    copy = "securesock identity trust authority.crl"
    emit(
        {"revoked": entries, "list": str(file), "next": [copy]},
        [
            *(f"revoked: {', '.join(names_of(each))} (serial {each.serial_number:x})" for each in revoked),
            f"The list is {file}; it counts as current for {days} days.",
            "",
            "Next: take that file to every other machine, and there:",
            f"    {copy}",
            _RESTART,
        ],
        as_json,
    )


_RESTART = "Programs that run already see it when they load their identity again."


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _warning(not_after: datetime) -> str:
    return "" if not_after > _now() else "  EXPIRED: peers refuse it"


def _describe(bundle: Bundle) -> dict[str, Json]:
    return {
        "folder": str(bundle.folder),
        "names": list(bundle.names),
        "serial": f"{bundle.serial:x}",
        "not_after": bundle.not_after.isoformat(),
        "fingerprint": bundle.fingerprint,
        "pin": bundle.pin,
    }


def _describe_anchors(identity: Identity) -> list[dict[str, Json]]:
    described: list[dict[str, Json]] = []
    for anchor in identity.trust.certificates:
        lists = identity.trust.lists_of(anchor)
        described.append(
            {
                "subject": label_of(anchor),
                "pin": pin_of(anchor.public_key()),
                "not_after": anchor.not_valid_after_utc.isoformat(),
                "revoked": sum(len(each.serials) for each in lists) if lists else None,
                "list_from": max(each.crl.last_update_utc for each in lists).isoformat() if lists else None,
            }
        )
    return described
