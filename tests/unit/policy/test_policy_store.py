"""The store: files that are refused, processes that share one, and what a fork leaves usable."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from uuid import UUID

import pytest

import securesock as ss
from securesock.policy.catalog import Catalog
from securesock.policy.conditions import match
from securesock.policy.errors import PolicyCode, PolicyError, PolicyStoreError, PolicyTimeout
from securesock.policy.fields import Field
from securesock.policy.filter_engine import FilterEngine
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, Filter, ObjectKind, Provider, Sublayer
from securesock.policy.store import Store
from tests.support.loopback import needs_fork

needs_modes = pytest.mark.skipif(os.name != "posix", reason="files have no modes on this platform")
CONNECT = Layer.ALE_AUTH_CONNECT_V4
KEY = UUID(int=7)


def a_filter(name: str = "f", **more: object) -> Filter:
    return Filter(name, **{"layer": CONNECT, "action": ActionType.BLOCK, "flags": 1, **more})


def names(engine: FilterEngine) -> list[str]:
    return sorted(each.name for each in engine.filters.enumerate())


def refused(path: Path) -> str:
    with pytest.raises(PolicyStoreError) as error:
        FilterEngine.open(path)
    assert error.value.code is PolicyCode.ERROR_GEN_FAILURE
    return str(error.value)


@needs_modes
def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as engine:
        engine.filters.add(a_filter())
        for each in tmp_path.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["policy.db"]


@needs_modes
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "policy.db"
    FilterEngine.open(path).close()
    path.chmod(mode)
    assert "others may write" in refused(path)


def test_files_that_are_no_stores_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no database, and long enough to be looked at as one" * 100)
    text.chmod(0o600)
    before = text.read_bytes()
    assert "not a database" in refused(text)
    assert text.read_bytes() == before
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    other.chmod(0o600)
    assert "no policy store" in refused(other)
    assert "is no file" in refused(tmp_path)
    assert "No such file" in refused(tmp_path / "missing" / "policy.db")


def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.db"
    FilterEngine.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE numbers SET value = 2 WHERE name = 'format'")
    connection.commit()
    connection.close()
    assert "of this version" in refused(path)


@pytest.mark.parametrize("column", ["body", "security"])
def test_an_object_that_cannot_be_read_is_named(tmp_path: Path, column: str) -> None:
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as engine:
        added = engine.filters.add(a_filter(), security=engine.filters.security())
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE objects SET {column} = '[1]'")
    connection.commit()
    connection.close()
    assert str(added.key) in refused(path)


def test_a_filter_whose_sublayer_is_missing_is_not_loaded_into_another(tmp_path: Path) -> None:
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as engine:
        lane = engine.sublayers.add(Sublayer("s", flags=1))
        engine.filters.add(a_filter(sublayer=lane.key))
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM objects WHERE kind = 3")
    connection.commit()
    connection.close()
    with pytest.raises(PolicyError) as error:
        FilterEngine.open(path)
    assert error.value.code is PolicyCode.SUBLAYER_NOT_FOUND


def test_dynamic_and_static_objects_never_touch_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as engine:
        session = engine.open_session(dynamic=True)

        def touched(*args: object) -> None:
            raise AssertionError("the file was written to")

        for name in ("put", "remove", "commit", "take_id", "put_container_security"):
            monkeypatch.setattr(Store, name, touched)
        before = path.read_bytes(), path.with_name("policy.db-wal").read_bytes()
        with session.transaction():
            lane = session.sublayers.add(Sublayer("s"))
            session.filters.add(a_filter(flags=0, sublayer=lane.key))
        engine.filters.delete(engine.filters.add(a_filter(flags=0)))
        session.filters.set_security(session.filters.enumerate()[0].key, engine.filters.security())
        session.close()
        assert (path.read_bytes(), path.with_name("policy.db-wal").read_bytes()) == before
        monkeypatch.undo()


# -- two engines on one file, as two processes would have ---------------------------------------------------------


def test_what_one_commits_the_other_takes_over(tmp_path: Path) -> None:
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as one, FilterEngine.open(path) as two:
        heard = two.filters.subscribe()
        watch = two.watch(CONNECT, {})
        assert not two.refresh()
        added = one.filters.add(a_filter("one"))
        assert names(two) == []
        assert two.refresh()
        assert two.filters.find(added.key) == added
        assert two.classify(CONNECT, {}).is_blocked
        assert watch.poll() is not None
        change = heard.poll()
        assert change is not None
        assert change.key == added.key
        assert not two.refresh()
        two.filters.delete(added)
        other = two.filters.add(a_filter("two"))
        assert other.id > added.id
        with one.transaction():
            assert names(one) == ["two"]
        assert not one.refresh()
        assert not FilterEngine.open(":memory:").refresh()


def test_an_object_that_was_replaced_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as one, FilterEngine.open(path) as two:
        one.filters.add(a_filter("old", key=KEY))
        two.refresh()
        with one.transaction():
            one.filters.delete(KEY)
            one.filters.add(a_filter("new", key=KEY))
        one.filters.set_security(KEY, one.filters.security())
        two.refresh()
        assert two.filters.find(KEY).name == "new"


def test_what_is_in_use_here_outlives_its_deletion_there(tmp_path: Path) -> None:
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as one, FilterEngine.open(path) as two:
        provider = one.providers.add(Provider("p", flags=1))
        lane = one.sublayers.add(Sublayer("s", flags=1, provider=provider.key, weight=0xF800))
        two.refresh()
        own = two.filters.add(a_filter("own", flags=0, sublayer=lane.key))
        with one.transaction():
            one.sublayers.delete(lane)
            one.providers.delete(provider)
        assert two.refresh()
        assert two.classify(CONNECT, {}).filter == own
        with pytest.raises(PolicyError) as error:
            two.filters.add(a_filter(sublayer=lane.key))
        assert error.value.code is PolicyCode.LIFETIME_MISMATCH
        two.filters.delete(own)
        two.sublayers.delete(lane.key)
        two.providers.delete(provider.key)


def test_filters_follow_a_sublayer_that_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as one, FilterEngine.open(path) as two:
        one.sublayers.add(Sublayer("s", key=KEY, flags=1, weight=0x10))
        two.refresh()
        mine = two.filters.add(a_filter("mine", flags=0, sublayer=KEY))
        two.filters.add(a_filter("universal", flags=0, action=ActionType.PERMIT))
        assert two.classify(CONNECT, {}).filter == mine
        with one.transaction():
            one.sublayers.delete(KEY)
            one.sublayers.add(Sublayer("s", key=KEY, flags=1, weight=0xF800))
        two.refresh()
        account = two.explain(CONNECT, {})
        assert [lane.sublayer.weight for lane in account.sublayers] == [0xF800, 0x8000]
        assert account.verdict == two.classify(CONNECT, {})


def test_writers_in_two_processes_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as one, FilterEngine.open(path, transaction_wait_s=0.0) as two:
        with one.transaction():
            one.filters.add(a_filter("one"))
            with pytest.raises(PolicyTimeout):
                two.filters.add(a_filter("two"))
            with pytest.raises(PolicyTimeout), two.transaction():
                pass
            assert two.filters.add(a_filter("static", flags=0)).id
        two.filters.add(a_filter("two"))
        assert names(two) == ["one", "static", "two"]


def test_a_dynamic_session_that_turns_to_the_file_too_late_begins_again(tmp_path: Path) -> None:
    """It had changed things before it took the file's lock, and another process had written in between."""
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as one, FilterEngine.open(path) as two:
        stored = two.filters.add(a_filter("stored"))
        session = two.open_session(dynamic=True)
        session.begin()
        session.filters.add(a_filter("mine", flags=0))
        one.refresh()
        one.filters.add(a_filter("one"))
        with pytest.raises(PolicyError) as error:
            session.filters.delete(stored)
        assert error.value.code is PolicyCode.TXN_ABORTED
        assert names(two) == ["stored"]
        session.begin()
        session.filters.delete(stored)
        session.commit()
        assert names(two) == ["one"]


@needs_fork
def test_a_forked_child_has_the_policy_and_a_connection_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as engine:
        engine.filters.add(a_filter("before"))
        engine.filters.add(a_filter("static", flags=0))
        reading = engine.open_session()
        reading.begin(read_only=True)
        child = os.fork()
        if child == 0:
            os._exit(in_child(engine))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        reading.abort()
        engine.refresh()
        assert names(engine) == ["before", "child", "static"]


def in_child(engine: FilterEngine) -> int:
    """0 if the child sees everything, is not held up by the parent's transaction, and can write; never raises."""
    try:
        seen = names(engine)
        engine.filters.add(a_filter("child"))
        engine.close()
        return 0 if seen == ["before", "static"] else 1
    except (PolicyError, sqlite3.Error):
        return 2


def test_conditions_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.db"
    conditions = (match(Field.IP_REMOTE_ADDRESS, "192.0.2.0/24"), match(Field.ALE_REMOTE_USER_ID, "host/*.example"))
    with FilterEngine.open(path) as engine:
        added = engine.filters.add(a_filter(conditions=conditions))
    with FilterEngine.open(path) as engine:
        assert engine.filters.find(added.key) == added
        flow = {Field.IP_REMOTE_ADDRESS: "192.0.2.9", Field.ALE_REMOTE_USER_ID: "host/db.example"}
        assert engine.classify(CONNECT, flow).filter == added
        assert not engine.classify(CONNECT, {**flow, Field.ALE_REMOTE_USER_ID: "host/a.db.example"}).is_blocked


def test_dynamic_objects_never_touch_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.db"
    with FilterEngine.open(path) as engine:
        engine.filters.add(a_filter("kept"))
        session = engine.open_session(dynamic=True)

        def touch(*arguments: object) -> None:
            raise AssertionError("the store was asked")

        for name in ("begin", "put", "remove", "take_id", "commit", "rollback", "has_changed", "revisions", "rows"):
            monkeypatch.setattr(Store, name, touch)
        before = [(each.name, each.stat().st_mtime_ns, each.stat().st_size) for each in sorted(tmp_path.iterdir())]
        for number in range(3):
            with session.transaction():
                made = session.filters.add(a_filter(f"dynamic {number}", flags=0))
            assert engine.classify(CONNECT, {}).is_blocked
            session.filters.delete(made)
        context = ss.SecurityContext(ss.Identity.ephemeral("host/a.example"), policy=engine)
        with ss.SecureSocket(context=context) as sock:
            sock.set_security(ss.IPsecSettings(guarantee_encryption=True))
            assert len(names(engine)) > 1
        session.filters.add(a_filter("left to the end", flags=0))
        session.close()
        assert names(engine) == ["kept"]
        assert [
            (each.name, each.stat().st_mtime_ns, each.stat().st_size) for each in sorted(tmp_path.iterdir())
        ] == before
        monkeypatch.undo()


def test_main_mode_filters_of_many_sockets_are_found_without_looking_at_all_filters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with FilterEngine.open(":memory:", dynamic=True) as engine:
        context = ss.SecurityContext(ss.Identity.ephemeral("host/a.example"), policy=engine)

        def every(catalog: Catalog, kind: ObjectKind) -> None:
            raise AssertionError(f"every {kind.label} was looked at")

        monkeypatch.setattr(Catalog, "records", every)
        for _ in range(2):
            with ss.SecureSocket(context=context) as sock:
                sock.set_security(ss.IPsecSettings(guarantee_encryption=True))
        monkeypatch.undo()
        assert names(engine) == []
