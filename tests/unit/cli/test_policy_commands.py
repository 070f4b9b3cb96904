"""securesock policy and explain: what they print, what they leave in the store, and with which status they end."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import securesock as ss
from securesock.cli import main
from securesock.cli.explain import read_flow
from securesock.engine.context import default_context
from securesock.policy.conditions import match
from securesock.policy.fields import Field
from securesock.policy.filter_engine import FilterEngine
from securesock.policy.ipsec import AuthenticationMethod, IkePolicy, IkeProposal, PresharedKeyAuthentication
from securesock.policy.ipsec_numbers import AuthMethodType, ContextType, DhGroup, IkeCipher, IkeIntegrity
from securesock.policy.layers import Layer
from securesock.policy.model import ActionType, ContextFlag, Filter, ProviderContext
from securesock.secret import Secret
from securesock.types import Flow


class Result(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        """The one object on standard output."""
        (line,) = self.out.splitlines()
        found = json.loads(line)
        assert found["schema"] == 1
        return found


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("SECURESOCK_CONFIG", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str) -> Result:
        capsys.readouterr()
        status = main(arguments)
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run_command


def filled(run: Run) -> None:
    for arguments in (
        ("provider", "shop"),
        ("sublayer", "shop lane", "--weight", "36864", "--provider", "shop"),
        (
            *("filter", "no telnet", "--layer", "ALE_AUTH_CONNECT_V4", "--action", "block"),
            *("--if", "ip_remote_port=23", "--if", "IP_REMOTE_ADDRESS=192.0.2.0/24", "--sublayer", "shop lane"),
        ),
    ):
        done = run("policy", "add", *arguments)
        assert done.status == 0, done.err
        assert "added:" in done.out


def names(result: Result, section: str) -> list[str]:
    listed = result.json[section]
    assert isinstance(listed, list)
    return [each["name"] for each in listed]


def test_what_is_added_is_listed_shown_explained_and_deleted(run: Run, tmp_path: Path) -> None:
    filled(run)
    store = tmp_path / "home" / "policy.db"
    assert stat.S_IMODE(store.stat().st_mode) == 0o600

    listed = run("policy", "list")
    assert listed.status == 0
    assert "no telnet: BLOCK at ALE_AUTH_CONNECT_V4: IP_REMOTE_PORT is 23; IP_REMOTE_ADDRESS" in listed.out
    assert names(run("policy", "list", "--json"), "filters") == ["no telnet"]
    everything = run("policy", "list", "sublayers", "--all", "--json")
    assert "shop lane" in names(everything, "sublayers")
    assert len(names(everything, "sublayers")) > 5

    shown = run("policy", "show", "shop lane", "--json").json
    assert shown["section"] == "sublayers"
    assert shown["used_by"] == ["no telnet"]
    assert "used by the filter 'no telnet'" in run("policy", "show", "shop lane").out

    explained = run("explain", "tcp", "10.0.0.1:50000", "to", "192.0.2.9:23")
    assert explained.status == 0
    assert "blocked: ALE_AUTH_CONNECT_V4: blocked by filter" in explained.out
    assert "not blocked" in run("explain", "10.0.0.1 -> 192.0.2.9:24").out

    refused = run("policy", "delete", "shop lane")
    assert refused.status == 1
    assert "in use" in refused.err
    gone = run("policy", "delete", "shop", "no telnet", "shop lane", "--json")
    assert gone.status == 0
    assert run("policy", "list").out.strip() == "nothing"


def test_deleting_is_all_or_nothing(run: Run) -> None:
    filled(run)
    assert run("policy", "delete", "no telnet", "shop").status == 1  # the sublayer refers to the provider
    assert names(run("policy", "list", "--json"), "filters") == ["no telnet"]


def test_an_exported_store_is_imported_elsewhere_as_the_same(run: Run, tmp_path: Path) -> None:
    filled(run)
    assert run("policy", "export", "policy.json").status == 0
    document = json.loads((tmp_path / "policy.json").read_text())
    assert document["filters"][0]["conditions"] == [
        {"field": "IP_REMOTE_PORT", "value": 23},
        {"field": "IP_REMOTE_ADDRESS", "value": "192.0.2.0/24"},
    ]
    assert "flags" not in document["filters"][0]
    checked = run("policy", "check", "policy.json")
    assert (checked.status, checked.out.strip()) == (0, "3 objects, nothing wrong")

    done = run("policy", "import", "policy.json", "--store", "other.db", "--json")
    assert done.json["added"] == 3
    again = run("policy", "export", "--store", "other.db", "--json").json
    assert again == document

    refused = run("policy", "import", "policy.json", "--store", "other.db")
    assert refused.status == 1
    assert "provider 'shop'" in refused.err
    assert run("policy", "import", "policy.json", "--replace", "--store", "other.db").status == 0
    assert run("policy", "export", "--store", "other.db", "--json").json == document
    assert run("policy", "check", "--store", "other.db").status == 0


def test_a_store_is_what_the_library_opens(run: Run, tmp_path: Path) -> None:
    filled(run)
    flow = {Field.IP_REMOTE_PORT: 23, Field.IP_REMOTE_ADDRESS: "192.0.2.7"}
    with FilterEngine.open(tmp_path / "home" / "policy.db") as engine:
        assert engine.classify(Layer.ALE_AUTH_CONNECT_V4, flow).is_blocked


def test_the_default_context_asks_the_store_that_the_configuration_names(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "b.psk").write_bytes(b"0123456789abcdef0123456789abcdef")
    (home / "b.psk").chmod(0o600)
    (home / "config.toml").write_text(
        '[identity]\nname = "a.example"\npeers = { "b.example" = "b.psk" }\n[policy]\nstore = "mine.db"\n'
    )
    filled(run)
    assert (home / "mine.db").exists()
    context = default_context()
    assert context.policy is not None
    with context.policy, ss.SecureSocket(context=context) as sock, pytest.raises(ss.PolicyRefused, match="no telnet"):
        sock.connect(("192.0.2.9", 23))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("policy = 7\n", "is a table"),
        ("[policy]\n", 'needs store = "..."'),
        ('[policy]\nstore = "a"\nstroe = "b"\n', "line 3: unknown key policy.stroe"),
    ],
)
def test_a_configuration_that_names_no_store_says_so(run: Run, tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text(text)
    done = run("policy", "list")
    assert done.status == 2
    assert why in done.err


def secret_store(path: Path) -> None:
    policy = IkePolicy(
        methods=(AuthenticationMethod(AuthMethodType.PRESHARED_KEY, PresharedKeyAuthentication(Secret(b"x" * 20))),),
        proposals=(IkeProposal(IkeCipher.AES_128, IkeIntegrity.SHA_256, DhGroup.ECP_256),),
    )
    context = ProviderContext("keys", type=ContextType.IKEV2_MM, content=policy, flags=int(ContextFlag.PERSISTENT))
    with FilterEngine.open(path) as engine:
        engine.provider_contexts.add(context)


def test_a_pre_shared_key_is_written_only_when_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    secret_store(tmp_path / "s.db")
    key = (b"x" * 20).hex()
    for arguments in (("list",), ("show", "keys"), ("export",)):
        for flag in ((), ("--json",)):
            done = run("policy", *arguments, "--store", "s.db", *flag)
            assert done.status == 0
            assert key not in done.out
    assert run("policy", "export", "all.json", "--with-secrets", "--store", "s.db").status == 0
    assert key in (tmp_path / "all.json").read_text()
    assert stat.S_IMODE((tmp_path / "all.json").stat().st_mode) == 0o600
    assert run("policy", "import", "all.json", "--store", "t.db").status == 0
    assert run("policy", "check", "--store", "t.db").status == 0
    run("policy", "export", "less.json", "--store", "s.db")
    refused = run("policy", "import", "less.json", "--store", "u.db")
    assert refused.status == 2
    assert "provider_contexts[0]" in refused.err
    assert "secret was left out" in refused.err


def test_check_names_what_is_wrong(run: Run, tmp_path: Path) -> None:
    never = {"field": "IP_REMOTE_PORT", "match": "LESS", "value": 0}
    bad = {"name": "f", "layer": "IPSEC_V4", "action": "PERMIT", "sublayer": "00000000-0000-0000-0000-0000000000aa"}
    for document, why in (
        ({"filters": [{"name": "f", "layer": "ALE_AUTH_CONNECT_V4", "conditions": [never]}]}, "can never match"),
        ({"filters": [bad]}, "filter 'f': no sublayer"),
        ({"filters": [{"name": "f", "layer": "NOWHERE"}]}, "filters[0]: layer: 'NOWHERE' is none of"),
        ({"filter": []}, "unknown section 'filter'"),
    ):
        (tmp_path / "d.json").write_text(json.dumps(document))
        done = run("policy", "check", "d.json", "--json")
        assert done.status == 1
        (problem,) = done.json["problems"]
        assert why in problem
    (tmp_path / "d.json").write_text("{")
    assert run("policy", "check", "d.json").status == 1
    (tmp_path / "broken.db").write_bytes(b"no database at all" * 100)
    assert run("policy", "check", "--store", "broken.db").status == 1


@pytest.mark.parametrize(
    ("condition", "meant"),
    [
        ("IP_PROTOCOL=6", match(Field.IP_PROTOCOL, 6)),
        ("IP_REMOTE_ADDRESS = 2001:db8::/32", None),
        ("IP_REMOTE_ADDRESS=10.0.0.1", match(Field.IP_REMOTE_ADDRESS, "10.0.0.1")),
    ],
)
def test_conditions_are_what_match_makes(run: Run, tmp_path: Path, condition: str, meant: object) -> None:
    layer = "ALE_AUTH_CONNECT_V4" if meant is not None else "ALE_AUTH_CONNECT_V6"
    done = run("policy", "add", "filter", "f", "--layer", layer, "--action", "permit", "--if", condition, "--hard")
    assert done.status == 0, done.err
    with FilterEngine.open(tmp_path / "home" / "policy.db") as engine:
        (added,) = [each for each in engine.filters.enumerate() if each.name == "f"]
    assert isinstance(added, Filter)
    assert added.action is ActionType.PERMIT
    if meant is not None:
        assert added.conditions == (meant,)


def test_every_operator_and_an_identity_can_be_written(run: Run) -> None:
    done = run(
        *("policy", "add", "filter", "f", "--layer", "ALE_AUTH_RECV_ACCEPT_V4", "--action", "PERMIT", "--weight", "9"),
        *("--if", "IP_REMOTE_PORT=1024-65535", "--if", "IP_LOCAL_PORT!=80"),
        *("--if", "ALE_REMOTE_MACHINE_ID=host/*.example", "--if", "INTERFACE_INDEX>=3"),
    )
    assert done.status == 0, done.err
    written = run("policy", "export", "--json").json["filters"]
    assert isinstance(written, list)
    assert written[0]["weight"] == {"exact": 9}
    assert written[0]["conditions"] == [
        {"field": "IP_REMOTE_PORT", "value": [1024, 65535]},
        {"field": "IP_LOCAL_PORT", "match": "NOT_EQUAL", "value": 80},
        {"field": "ALE_REMOTE_MACHINE_ID", "value": ["host/*.example"]},
        {"field": "INTERFACE_INDEX", "match": "GREATER_OR_EQUAL", "value": 3},
    ]
    allowed = run("explain", "10.0.0.1:443 <- 192.0.2.9:2000", "--peer", "a.example", "--json").json
    assert allowed["direction"] == "inbound"
    assert any("host/a.example" in json.dumps(each) for each in allowed["layers"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("policy", "list", "everything"),
        ("policy", "list", "--store", "missing.db"),
        ("policy", "show", "nobody"),
        ("policy", "add", "filter", "f", "--layer", "ALE_AUTH_CONNECT_V4", "--action", "perhaps"),
        ("policy", "add", "filter", "f", "--layer", "ALE_AUTH_CONNECT_V4", "--action", "block", "--if", "PORT"),
        ("policy", "add", "filter", "f", "--layer", "ALE_AUTH_CONNECT_V4", "--action", "block", "--if", "PORT=1"),
        ("policy", "add", "filter", "f", "--layer", "ALE_AUTH_CONNECT_V4", "--action", "block", "--sublayer", "x"),
        ("policy", "add", "sublayer", "s", "--weight", "70000"),
        ("policy", "import", "nothing.json", "--bogus"),
        ("explain", "nonsense here"),
        ("explain", "db.example:443"),
        ("explain", "10.0.0.1 -> 2001:db8::1"),
        ("explain", "300 -> 10.0.0.1"),
        ("explain", "10.0.0.1:99999"),
    ],
)
def test_misuse_is_status_2(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.status == 2, done
    assert done.err.startswith("securesock: ")
    assert run(*arguments, "--json").json["error"]


def test_without_a_store_what_is_built_in_is_explained(run: Run, tmp_path: Path) -> None:
    done = run("explain", "192.0.2.9:443", "--json")
    assert done.status == 0
    assert done.json["outcome"] == "not blocked"
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("text", "flow", "direction"),
    [
        ("tcp 10.0.0.1:5 -> 192.0.2.7:443", Flow(6, "10.0.0.1", 5, "192.0.2.7", 443), "outbound"),
        ("udp 10.0.0.1:5 <- 192.0.2.7:6", Flow(17, "10.0.0.1", 5, "192.0.2.7", 6), "inbound"),
        ("132 10.0.0.1->192.0.2.7", Flow(132, "10.0.0.1", 0, "192.0.2.7", 0), "outbound"),
        ("[2001:db8::1]:5 -> [2001:db8::2]:6", Flow(6, "2001:db8::1", 5, "2001:db8::2", 6), "outbound"),
        ("2001:db8::1 -> 2001:db8::2", Flow(6, "2001:db8::1", 0, "2001:db8::2", 0), "outbound"),
        ("to 127.0.0.1:80", Flow(6, "127.0.0.1", 0, "127.0.0.1", 80), "outbound"),
        ("udp 10.0.0.1:5 from 192.0.2.7:6", Flow(17, "10.0.0.1", 5, "192.0.2.7", 6), "inbound"),
        ("-> 127.0.0.1:80", Flow(6, "127.0.0.1", 0, "127.0.0.1", 80), "outbound"),
        ("udp 127.0.0.1:80", Flow(17, "127.0.0.1", 0, "127.0.0.1", 80), "outbound"),
    ],
)
def test_flows_are_read_as_people_write_them(text: str, flow: Flow, direction: str) -> None:
    assert read_flow(text) == (flow, direction)
