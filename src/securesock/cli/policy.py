"""securesock policy: looks at the filter engine's store and edits it.

Everything in a store is persistent, so that nobody writes that flag: it is set on the way in and left out on the way
out.  An edit is one transaction.  Programs that have the store open see it with their next write or refresh().  What an
object is as text is policy/document.py's business, what may be in a store the engine's.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, TypeVar
from uuid import UUID

import typer

from ..errors import LocalMisuse
from ..identity.configured import policy_store
from ..policy import identifiers as ids
from ..policy.builtin import BUILT_IN_OBJECTS
from ..policy.conditions import Condition, compile_conditions
from ..policy.document import SECTIONS, describe, read_condition, read_document, write_document
from ..policy.errors import PolicyError
from ..policy.explain import describe_condition
from ..policy.fields import Field
from ..policy.filter_engine import FilterEngine
from ..policy.layers import layer_named
from ..policy.model import (
    ActionType,
    Callout,
    CalloutFlag,
    Filter,
    FilterFlag,
    PolicyObject,
    Provider,
    ProviderContext,
    ProviderFlag,
    Sublayer,
)
from ..policy.weights import AUTOMATIC, exact_weight
from ..types import Json
from .output import FAILED, AsJson, emit

__all__ = ["Store", "open_store", "register"]

commands = typer.Typer(help="Look at the filter engine's store and edit it.", no_args_is_help=True)
additions = typer.Typer(help="Add an object.", no_args_is_help=True)
commands.add_typer(additions, name="add")

Store = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="FILE", help="The store; else the configured one, or policy.db.", show_default=False
    ),
]
Item = TypeVar("Item", Provider, ProviderContext, Sublayer, Callout, Filter)
Name = Annotated[str, typer.Argument(help="What it is called.")]
WhichProvider = Annotated[
    str | None, typer.Option("--provider", metavar="NAME|KEY", help="Whose it is.", show_default=False)
]
_BUILT_IN: Final = frozenset((type(each), each.key) for each in BUILT_IN_OBJECTS)
_OPERATORS: Final = {
    "!=": "NOT_EQUAL",
    "<=": "LESS_OR_EQUAL",
    ">=": "GREATER_OR_EQUAL",
    "<": "LESS",
    ">": "GREATER",
    "=": None,
}
_CONDITION: Final = re.compile(r"\s*(?P<field>\w+)\s*(?P<operator>!=|<=|>=|<|>|=)\s*(?P<value>.*\S)\s*")
_PORTS: Final = re.compile(r"(\d+)-(\d+)")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(commands, name="policy")


@contextlib.contextmanager
def open_store(store: Path | None, *, must_exist: bool = True) -> Iterator[FilterEngine]:
    """The engine of a store; of memory, with what is built in, where none was named and none is there.

    LocalMisuse: a file that was named and is not there.
    """
    path = policy_store() if store is None else store
    if must_exist and not path.exists():
        if store is not None:
            raise LocalMisuse(f"there is no store {path}: 'securesock policy add' and 'import' make one")
        with FilterEngine.open(":memory:") as engine:
            yield engine
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FilterEngine.open(path) as engine:
        yield engine


@commands.command("list")
def list_objects(
    section: Annotated[
        str | None, typer.Argument(metavar="[SECTION]", help=f"One of {', '.join(SECTIONS)}.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="What is built in, too.")] = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """List what the store holds."""
    if section is not None and section not in SECTIONS:
        raise LocalMisuse(f"there is no section {section!r}; there are {', '.join(SECTIONS)}")
    with open_store(store) as engine:
        found = {name: _listed(engine, name, everything) for name in SECTIONS if section in (None, name)}
    lines: list[str] = []
    for name, items in found.items():
        lines += [name, *(f"  {_line(each)}" for each in items)] if items else []
    result: dict[str, Json] = {name: [_shown(each) for each in items] for name, items in found.items()}
    emit(result, lines or ["nothing"], as_json)


@commands.command("show")
def show(
    which: Annotated[str, typer.Argument(metavar="KEY|ID|NAME", help="Which object.")],
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Show one object in full; a pre-shared key is left out."""
    with open_store(store) as engine:
        section, item = _one(engine, which)
        used_by = [each.name for each in engine.filters.enumerate() if item.key in _referred(each)]
    shown = _shown(item)
    lines = [f"{_singular(section)} {item.name!r}", *json.dumps(shown, indent=2, ensure_ascii=False).splitlines()]
    lines += [f"used by the filter {name!r}" for name in used_by]
    emit({"section": section, "object": shown, "used_by": [*used_by]}, lines, as_json)


@additions.command("provider")
def add_provider(
    name: Name,
    service: Annotated[str, typer.Option("--service", help="Without this service its filters sleep.")] = "",
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Add a provider: whose policy something is."""
    with open_store(store, must_exist=False) as engine:
        _added(_add(engine, Provider(name, service_name=service)), as_json)


@additions.command("sublayer")
def add_sublayer(
    name: Name,
    weight: Annotated[int, typer.Option("--weight", min=0, max=0xFFFF, help="The highest is judged first.")],
    provider: WhichProvider = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Add a sublayer: filters that are judged among themselves."""
    with open_store(store, must_exist=False) as engine:
        owner = None if provider is None else _key_in(engine, "providers", provider)
        _added(_add(engine, Sublayer(name, weight=weight, provider=owner)), as_json)


@additions.command("filter")
def add_filter(
    name: Name,
    layer: Annotated[str, typer.Option("--layer", help="Where it judges, such as ALE_AUTH_CONNECT_V4.")],
    action: Annotated[str, typer.Option("--action", help="permit, block, or a callout's: see --callout.")],
    conditions: Annotated[
        list[str] | None,
        typer.Option("--if", metavar="CONDITION", help="FIELD=VALUE, also != < > <= >=; A-B is a range (repeatable)."),
    ] = None,
    sublayer: Annotated[str | None, typer.Option("--sublayer", metavar="NAME|KEY", show_default=False)] = None,
    weight: Annotated[int | None, typer.Option("--weight", min=0, help="Exact; else by its conditions.")] = None,
    hard: Annotated[bool, typer.Option("--hard", help="Lower sublayers cannot change it.")] = False,
    callout: Annotated[str | None, typer.Option("--callout", metavar="NAME|KEY", show_default=False)] = None,
    context: Annotated[str | None, typer.Option("--context", metavar="NAME|KEY", show_default=False)] = None,
    provider: WhichProvider = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Add a filter: what happens to which traffic.  Without --provider it is its sublayer's."""
    chosen = ActionType.__members__.get(action.upper().replace("-", "_"))
    if chosen is None:
        raise LocalMisuse(f"there is no action {action!r}")
    with open_store(store, must_exist=False) as engine:
        lane = None if sublayer is None else engine.sublayers.find(_key_in(engine, "sublayers", sublayer))
        # a persistent object of one provider may refer to that one's objects only
        owner = lane.provider if lane is not None else None
        if provider is not None:
            owner = _key_in(engine, "providers", provider)
        item = Filter(
            name,
            layer=layer_named(layer),
            action=chosen,
            action_key=ids.ZERO_GUID if callout is None else _key_in(engine, "callouts", callout),
            conditions=tuple(_condition(each) for each in conditions or ()),
            sublayer=ids.ZERO_GUID if lane is None else lane.key,
            weight=AUTOMATIC if weight is None else exact_weight(weight),
            flags=int(FilterFlag.CLEAR_ACTION_RIGHT) if hard else 0,
            provider=owner,
            provider_context=None if context is None else _key_in(engine, "provider_contexts", context),
        )
        _added(_add(engine, item), as_json)


@commands.command("delete")
def delete(
    which: Annotated[list[str], typer.Argument(metavar="KEY|ID|NAME...", help="Which objects.")],
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Delete objects, all or none."""
    with open_store(store) as engine:
        found = [_one(engine, each) for each in which]
        with engine.transaction():
            # filters first: they refer to the others
            for section, item in sorted(found, key=lambda each: list(SECTIONS).index(each[0]), reverse=True):
                _delete(engine, section, item.key)
    deleted: list[Json] = [{"section": section, "key": str(item.key), "name": item.name} for section, item in found]
    emit({"deleted": deleted}, [f"deleted: {_singular(section)} {item.name!r}" for section, item in found], as_json)


@commands.command("export")
def export_policy(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to; else to the output.", show_default=False)
    ] = None,
    with_secrets: Annotated[bool, typer.Option("--with-secrets", help="Pre-shared keys as well.")] = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Write what the store holds as a document, without what is built in."""
    with open_store(store) as engine:
        items = {name: [_plain(each) for each in _listed(engine, name, False)] for name in SECTIONS}
    document = write_document(items, with_secrets=with_secrets)
    text = json.dumps({"schema": 1, **document}, indent=2, ensure_ascii=False)
    count = sum(len(each) for each in items.values())
    if file is None:
        emit(document, [text], as_json)
        return
    _write_private(file, text + "\n")
    emit({"file": str(file), "objects": count}, [f"{file} holds {count} objects"], as_json)


@commands.command("import")
def import_policy(
    file: Annotated[Path, typer.Argument(help="A document; - reads the input.")],
    replacing: Annotated[bool, typer.Option("--replace", help="Delete what the store holds first.")] = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Add the objects of a document, all or none."""
    items = _read(file)
    with open_store(store, must_exist=False) as engine, engine.transaction():
        if replacing:
            for section in reversed(list(SECTIONS)):
                for each in _listed(engine, section, False):
                    _delete(engine, section, each.key)
        count = _add_all(engine, items)
    emit({"added": count}, [f"{count} objects added"], as_json)


@commands.command("check")
def check(
    file: Annotated[
        Path | None, typer.Argument(metavar="[DOCUMENT]", help="A document; else the store.", show_default=False)
    ] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> int:
    """Say what is wrong: what cannot be read, refers to nothing, or can never match."""
    problems: list[str] = []
    count = 0
    try:
        if file is None:
            with open_store(store) as engine:
                items = {name: [_plain(each) for each in _listed(engine, name, False)] for name in SECTIONS}
        else:
            items = _read(file)
        count = sum(len(each) for each in items.values())
        with FilterEngine.open(":memory:") as trial:
            _add_all(trial, items)
            problems += [_never(each) for each in trial.filters.enumerate() if not _can_match(each)]
    except (PolicyError, LocalMisuse) as error:
        problems.append(str(error))
    lines = problems or [f"{count} objects, nothing wrong"]
    emit({"objects": count, "problems": [*problems]}, lines, as_json)
    return FAILED if problems else 0


# -- objects --------------------------------------------------------------------------------------------------------


def _every(engine: FilterEngine, section: str) -> Sequence[PolicyObject]:
    """Every object of a section, with what is built in."""
    read: dict[str, Callable[[], Sequence[PolicyObject]]] = {
        "providers": engine.providers.enumerate,
        "provider_contexts": engine.provider_contexts.enumerate,
        "sublayers": engine.sublayers.enumerate,
        "callouts": engine.callouts.enumerate,
        "filters": engine.filters.enumerate,
    }
    return read[section]()


def _add(engine: FilterEngine, item: PolicyObject) -> PolicyObject:
    """Add an object for good."""
    match item:
        case Provider():
            return engine.providers.add(_lasting(item))
        case ProviderContext():
            return engine.provider_contexts.add(_lasting(item))
        case Sublayer():
            return engine.sublayers.add(_lasting(item))
        case Callout():
            return engine.callouts.add(_lasting(item))
        case Filter():
            return engine.filters.add(_lasting(item))


def _delete(engine: FilterEngine, section: str, key: UUID) -> None:
    delete: dict[str, Callable[[UUID], None]] = {
        "providers": engine.providers.delete,
        "provider_contexts": engine.provider_contexts.delete,
        "sublayers": engine.sublayers.delete,
        "callouts": engine.callouts.delete,
        "filters": engine.filters.delete,
    }
    delete[section](key)


def _listed(engine: FilterEngine, section: str, everything: bool) -> list[PolicyObject]:
    """The objects of a section; without ``everything`` those that somebody put into the store."""
    return [each for each in _every(engine, section) if everything or _is_stored(each)]


def _lasting_flag(item: PolicyObject) -> int:
    return int(CalloutFlag.PERSISTENT if isinstance(item, Callout) else ProviderFlag.PERSISTENT)


def _is_stored(item: PolicyObject) -> bool:
    return bool(item.flags & _lasting_flag(item)) and (type(item), item.key) not in _BUILT_IN


def _lasting(item: Item) -> Item:
    return replace(item, flags=item.flags | _lasting_flag(item))


def _plain(item: PolicyObject) -> PolicyObject:
    """Without what every object of a store has, and what the engine derives."""
    flags = item.flags & ~_lasting_flag(item)
    if isinstance(item, Filter):
        flags &= ~int(FilterFlag.HAS_PROVIDER_CONTEXT | FilterFlag.DISABLED)
    elif isinstance(item, Callout):
        flags &= ~int(CalloutFlag.REGISTERED)
    elif isinstance(item, Provider):
        flags &= ~int(ProviderFlag.DISABLED)
    return replace(item, flags=flags)


def _one(engine: FilterEngine, which: str) -> tuple[str, PolicyObject]:
    """The section and the object that a key, an id or a name means; LocalMisuse when none or several do."""
    found = [
        (section, each)
        for section in SECTIONS
        for each in _every(engine, section)
        if which in (str(each.key), str(each.id), each.name)
    ]
    if len(found) != 1:
        several = ", ".join(f"{_singular(section)} {each.key}" for section, each in found)
        raise LocalMisuse(f"{which!r} means {several}: give a key" if found else f"no object is called {which!r}")
    return found[0]


def _key_in(engine: FilterEngine, section: str, which: str) -> UUID:
    found = [each for each in _every(engine, section) if which in (str(each.key), each.name)]
    if len(found) != 1:
        what = _singular(section)
        raise LocalMisuse(f"{len(found)} {what}s are called {which!r}: give a key" if found else f"no {what} {which!r}")
    return found[0].key


def _referred(item: Filter) -> tuple[UUID | None, ...]:
    return item.sublayer, item.provider, item.provider_context, item.action_key if item.action.is_callout else None


def _add_all(engine: FilterEngine, items: dict[str, list[PolicyObject]]) -> int:
    count = 0
    for section in SECTIONS:
        for each in items[section]:
            try:
                _add(engine, each)
            except PolicyError as error:
                error.args = (error.args[0], f"{_singular(section)} {each.name!r}: {error}")
                error.strerror = error.args[1]
                raise
            count += 1
    return count


def _can_match(item: Filter) -> bool:
    tests = compile_conditions(item.layer.info, item.conditions)
    return not any(test.intervals == () or test.keys == () for test in tests)


def _never(item: Filter) -> str:
    return f"filter {item.name!r} can never match: no value meets one of its conditions"


# -- text -----------------------------------------------------------------------------------------------------------


def _condition(text: str) -> Condition:
    """A condition as people write it on a command line."""
    matched = _CONDITION.fullmatch(text)
    if matched is None:
        raise LocalMisuse(f"{text!r} is no condition, such as IP_REMOTE_PORT=443")
    name, operator, written = matched["field"].upper(), matched["operator"], matched["value"]
    value: Json = written
    field = Field.__members__.get(name)
    if field is not None and field.kind(4).bits:
        ports = _PORTS.fullmatch(written)
        if ports is not None:
            value = [int(ports[1]), int(ports[2])]
        elif written.isdecimal():
            value = int(written)
    how = _OPERATORS[operator]
    return read_condition({"field": name, "value": value, **({} if how is None else {"match": how})})


def _singular(section: str) -> str:
    return section.removesuffix("s").replace("_", " ")


def _shown(item: PolicyObject) -> dict[str, Json]:
    shown: dict[str, Json] = {"id": item.id, "built_in": (type(item), item.key) in _BUILT_IN, **describe(item)}
    if isinstance(item, Filter):
        shown["effective_weight"] = item.effective_weight
    return shown


def _line(item: PolicyObject) -> str:
    match item:
        case Filter():
            conditions = "; ".join(describe_condition(each) for each in item.conditions) or "everything"
            return f"{item.key}  {item.name}: {item.action.name} at {item.layer.name}: {conditions}"
        case Sublayer():
            return f"{item.key}  {item.name} (weight {item.weight})"
        case ProviderContext():
            return f"{item.key}  {item.name} ({item.type.name})"
        case Callout():
            return f"{item.key}  {item.name} at {item.layer.name}"
        case _:
            return f"{item.key}  {item.name}"


def _added(item: PolicyObject, as_json: bool) -> None:
    emit({"key": str(item.key), "id": item.id}, [f"added: {_line(item)}"], as_json)


def _read(file: Path) -> dict[str, list[PolicyObject]]:
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    try:
        return read_document(json.loads(text))
    except json.JSONDecodeError as error:
        raise LocalMisuse(f"{file}: {error}") from None
    except LocalMisuse as error:
        raise LocalMisuse(f"{file}: {error}") from None


def _write_private(file: Path, text: str) -> None:
    """For its owner alone: it may hold secrets."""
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(text, encoding="utf-8")
