"""docs/reference names every setting, option, metric, reason, route and field that there is, and none that is not."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from tests.docs.tables import Row, names, read_tables
from tests.support.authnode import new_key_file, prepare, running_authnode

from cubeauth import errors, exchange, messages, strictjson
from cubeauth.errors import PeerError, Reason, ServerRefused
from cubeauth.phases import Mode
from cubeauth_authnode import config as authnode_config
from cubeauth_authnode import http
from cubeauth_authnode.app import STORE_FILE, WITNESS_FILE
from cubeauth_authnode.settings import REPLAY_FILE
from cubeauth_cli import app, authtool, authtool_requests
from cubeauth_cli.commands import COMMANDS
from cubeauth_resources import claims
from cubeauth_resources.model import parse
from cubeauth_resources.reports import ProblemReason
from cubeauth_runtime import documents
from cubeauth_runtime.audit import Audit
from cubeauth_runtime.clock import SystemClock
from cubeauth_runtime.documents import Section
from cubeauth_runtime.endpoint import Endpoint
from cubeauth_sidecar import config as sidecar_config
from cubeauth_sidecar.commands import End, Outcome, Record
from cubeauth_sidecar.events import Side
from cubeauth_sidecar.journal import Journal
from cubeauth_sidecar.listeners import Listener
from cubeauth_sidecar.metrics import Metrics


def assert_the_same(documented: Iterable[str], there_is: Iterable[str], what: str) -> None:
    said, known = Counter(documented), set(there_is)
    assert known, f"nothing was found to compare {what} with"
    assert not known - said.keys(), f"{what}: not documented: {sorted(known - said.keys())}"
    assert not said.keys() - known, f"{what}: documented, and there is no such: {sorted(said.keys() - known)}"
    twice = [name for name, count in said.items() if count > 1]
    assert not twice, f"{what}: documented twice: {twice}"


# Settings: what the parsers ask for.


@dataclass
class Asked:
    """What a parser asked a section for. limits, defaults: of numbers and durations; fields: every name."""

    fields: set[str]
    limits: dict[str, tuple[float, float]]
    defaults: dict[str, float]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Records what is asked of every Section."""
    heard = Asked(set(), {}, {})
    finish = Section.finish

    def finishing(self: Section) -> None:
        heard.fields |= {_general(self, name) for name in self._known}
        finish(self)

    def recording(kind: str) -> None:
        getter = getattr(Section, kind)

        def getting(self: Section, name: str, default: Any = None, *, low: float, high: float) -> Any:
            heard.limits[_general(self, name)] = (low, high)
            if default is not None:
                heard.defaults[_general(self, name)] = default
            return getter(self, name, default, low=low, high=high)

        monkeypatch.setattr(Section, kind, getting)

    monkeypatch.setattr(Section, "finish", finishing)
    recording("integer")
    recording("duration")
    return heard


def _general(section: Section, name: str) -> str:
    """The dotted name without the place in a list."""
    path = section.error(name, "").field
    return path.replace("[0].", "[].")


def write_keys(folder: Path) -> None:
    for name in ("AuthService", "RootKey", "DatanodeService"):
        (folder / f"{name}.json").write_text(new_key_file(name).to_json())


def written(folder: Path, members: dict[str, Any]) -> Path:
    path = folder / "file.yaml"
    path.write_text(yaml.safe_dump(members))
    return path


def seconds(text: str) -> float:
    return Section({"it": text}, "a page").duration("it", 0, low=0, high=1e12)


def limits_in(cell: str, *, durations: bool) -> tuple[float, float]:
    low, high = cell.replace("`", "").split(" to ")
    return (seconds(low), seconds(high)) if durations else (int(low), int(high))


def check_numbers(row: Row, heard: Asked) -> None:
    """A setting's limits and default are as its row says; a text without a digit, such as `none`, is not judged."""
    (name,) = row.names
    if name not in heard.limits:
        return
    durations = row.cells["type"] == "duration"
    said, default = row.cells["limits"], row.cells["default"].strip("`")
    if "." not in said:
        assert limits_in(said, durations=durations) == pytest.approx(heard.limits[name]), f"{name}: limits"
    if default[:1].isdigit():
        assert (seconds(default) if durations else int(default)) == heard.defaults[name], f"{name}: default"


def test_every_setting_of_the_authnode(tmp_path: Path, asked: Asked) -> None:
    write_keys(tmp_path)
    members = {
        "listen": ":0",
        "storeDir": "store",
        "rootKeyFile": str(tmp_path / "RootKey.json"),
        "serviceKeyFile": str(tmp_path / "AuthService.json"),
    }
    authnode_config.load(written(tmp_path, members | {"requireBoundVerifier": ["*"]}))
    page = "authnode-configuration.md"
    assert_the_same(names(page, "YAML"), asked.fields - {"tls", "ticket", "limits"}, "settings of the Authnode")
    for table in read_tables(page):
        for row in table.rows if table.heading == "YAML" else ():
            check_numbers(row, asked)


def test_every_member_of_a_stock_file(tmp_path: Path, asked: Asked) -> None:
    members: dict[str, Any] = dict.fromkeys(authnode_config._STOCK_WITHOUT_MEANING, "1")
    for name in ("authServiceKey", "authRootKey"):
        members[name] = json.loads(new_key_file("Any").to_json())["auth_key"]
    members |= {"role": "authnode", "ip": "127.0.0.1", "port": "8080", "peers": "1:127.0.0.1:8080"}
    authnode_config.load(written(tmp_path, members | {"storeDir": "store", "walDir": "wal", "exporterPort": 9500}))
    page = "authnode-configuration.md"
    ignored = set(authnode_config._STOCK_WITHOUT_MEANING)
    assert_the_same(names(page, "Members that are used"), asked.fields - ignored, "members of a stock file that are used")
    assert_the_same(names(page, "Members without meaning"), ignored, "members of a stock file without meaning")


def test_every_setting_of_a_sidecar(tmp_path: Path, asked: Asked) -> None:
    write_keys(tmp_path)
    entry = {"name": "data", "listen": "127.0.0.1:1", "service": "DatanodeService"}
    accept = entry | {"forward": "127.0.0.1:2", "capability": "data:write:access"}
    members = {
        "keyFile": str(tmp_path / "DatanodeService.json"),
        "authnode": {"endpoints": ["127.0.0.1:8080"]},
        "accept": [accept],
        "connect": [entry | {"name": "other", "listen": "127.0.0.1:3", "peer": "127.0.0.1:4"}],
        "limits": {"idle": "1h"},
    }
    sidecar_config.load(written(tmp_path, members))
    page = "sidecar-configuration.md"
    headings = {table.heading for table in read_tables(page)} - {"Signals"}
    assert_the_same(names(page, *headings), asked.fields - {"authnode", "limits", "accept", "connect"}, "settings of a sidecar")
    for table in read_tables(page):
        for row in table.rows if table.heading == "Settings" else ():
            check_numbers(row, asked)


@pytest.mark.parametrize(("page", "load"), [("authnode-configuration.md", "authnode"), ("sidecar-configuration.md", "sidecar")])
def test_the_example_of_a_configuration_has_only_known_settings(page: str, load: str) -> None:
    """The example's paths are nobody's, so it is compared with the page, and read as YAML by the rules of the program."""
    text = (Path(__file__).resolve().parents[2] / "docs/reference" / page).read_text()
    example = text.partition("```yaml\n")[2].partition("```")[0]
    ((members, _),) = documents.load_all_yaml(example, page)
    documented = {name for table in read_tables(page) for name in table.names}
    assert members
    assert set(_dotted(members)) <= documented, load


def _dotted(members: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, value in members.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{path}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                yield from _dotted(item, f"{path}{name}[].")
        else:
            yield f"{path}{name}"


# Metrics: what a process exports.


def exported(text: str) -> set[str]:
    found = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP ")}
    return {name for name in found if not name.endswith("_created")}


def test_every_metric_of_the_authnode(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as authnode:
        url = f"http://{authnode.host}:{authnode.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=20) as response:
            found = exported(response.read().decode())
    assert_the_same(names("metrics.md", "Authnode"), found, "metrics of the Authnode")


def test_every_metric_of_a_sidecar_with_its_labels() -> None:
    metrics = Metrics()
    found = exported(generate_latest(metrics.registry).decode())
    assert_the_same(names("metrics.md", "Sidecar"), found, "metrics of a sidecar")
    labels = {each._name: ", ".join(each._labelnames) for each in vars(metrics).values() if each is not metrics.registry}
    for table in read_tables("metrics.md"):
        for row in table.rows if table.heading == "Sidecar" else ():
            assert row.cells["labels"] == labels[row.names[0].removesuffix("_total")], row.names[0]


# Audit.


def test_every_reason() -> None:
    tables = [table for table in read_tables("audit-and-logs.md") if table.heading == "Reasons"]
    reasons, ends = tables
    assert_the_same(reasons.names, (reason.value for reason in Reason), "reasons of the protocol")
    assert_the_same(ends.names, (end.value for end in End), "ends of a sidecar's connections")


def test_every_event_and_outcome() -> None:
    events, outcomes = [table for table in read_tables("audit-and-logs.md") if table.heading == "Events and outcomes"]
    words = {route.word for route in messages.ADMIN_ROUTES}
    assert_the_same(events.names, words | {"ticket", "connection"}, "events of the audit")
    assert_the_same(outcomes.names, (outcome.value for outcome in Outcome), "outcomes of a connection")


def test_every_member_of_an_audit_line(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as authnode:
        grant = authnode.admin_grant()
        unknown = strictjson.b64encode(b'{"Api2": []}')
        authnode.admin(grant, "createkey", {"id": "new", "role": "client", "caps": unknown})
        with pytest.raises(ServerRefused):
            authnode.ticket(new_key_file("nobody"), "MasterService")
    lines = [*authnode.audit_lines, *sidecar_lines(tmp_path / "sidecar.log")]
    found = {member for line in lines for member in line}
    assert_the_same(names("audit-and-logs.md", "Members"), found, "members of audit lines")


def sidecar_lines(path: Path) -> list[dict[str, Any]]:
    """What a journal writes of a peer that was known, and of one that was not."""
    audit = Audit(path)
    journal = Journal(Metrics(), audit, SystemClock())
    nowhere = ("127.0.0.1", 1)
    listener = Listener("data", "accept[0]", nowhere, nowhere, Side.PEER, "DatanodeService", Mode.SEALED, never)
    for proven in (True, False):
        record = Record(
            Outcome.CLOSED,
            End.COMPLETE,
            "a detail",
            peer="ltptest",
            proven=proven,
            jti="0f",
            seconds=1.0,
            from_peer=1,
            to_peer=2,
        )
        journal.note(listener, "127.0.0.1:2", record)
    audit.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


def never(_now: float) -> Any:
    raise AssertionError("no connection comes")


# Command line.


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its full name."""
    group = app.group()
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            for word, inner in command.commands.items():
                yield f"{name} {word}", inner
            if not command.invoke_without_command:
                continue
        yield name, command


def options_of(command: click.Command) -> set[str]:
    """Each option by its long name, arguments as they are shown."""
    return {
        max(parameter.opts, key=len) if isinstance(parameter, click.Option) else str(parameter.human_readable_name)
        for parameter in command.params
    }


def test_every_command_and_option() -> None:
    there_is = {name: options_of(command) for name, command in commands()}
    for word, flags in authtool._FLAGS.items():
        there_is[f"authtool {word}"] = {f"-{flag.name}" for flag in flags}
    del there_is["authtool"]  # reads its arguments itself: its words are above
    headings = {table.heading for table in read_tables("command-line.md") if table.heading.startswith("cubeauth ")}
    text = (Path(__file__).resolve().parents[2] / "docs/reference/command-line.md").read_text()
    for name, options in there_is.items():
        assert f"\n## cubeauth {name}\n" in text, f"docs/reference/command-line.md has no section for cubeauth {name}"
        if options:
            assert_the_same(names("command-line.md", f"cubeauth {name}"), options, f"options of cubeauth {name}")
    assert headings <= {f"cubeauth {name}" for name in there_is}


def test_every_request_of_authtool() -> None:
    assert_the_same(names("command-line.md", "Requests of authtool api"), authtool_requests.ASK, "requests of authtool api")


# HTTP, manifests, files.


def test_every_route_with_its_capability() -> None:
    rows = [row for table in read_tables("http-api.md") if table.heading.startswith("Routes") for row in table.rows]
    said = {row.names[0]: row.cells["capability"].strip("`") for row in rows}
    there_is = {route.path: route.capability for route in messages.ADMIN_ROUTES} | {messages.TICKET_PATH: "none"}
    assert said == there_is


def test_every_code_and_status() -> None:
    codes = {str(error.code) for error in vars(errors).values() if isinstance(error, type) and issubclass(error, PeerError)}
    assert_the_same(names("http-api.md", "Codes in a reply"), codes | {str(errors.CODE_SUCCESS)}, "codes of a reply")
    statuses = {each[0].split()[0].decode() for each in vars(http).values() if isinstance(each, tuple) and len(each) == 2}
    assert_the_same(names("http-api.md", "HTTP status"), {s for s in statuses if s.isdigit()} | {"200"}, "HTTP statuses")


def test_every_path_of_metrics_and_health() -> None:
    endpoint = Endpoint(CollectorRegistry(), live=str, ready=str)
    paths = {resource.canonical for resource in endpoint._runner.app.router.resources()}
    assert_the_same(names("metrics.md", "Metrics and health"), paths, "paths of metrics and health")


def test_every_field_of_the_manifests() -> None:
    general, auth_key, capability, problems = read_tables("manifests.md")
    spec = {f"spec.{name}" for name in (*parse._AUTH_KEY, *parse._CAPABILITY)} - {"spec.clusterRef"}
    common = {"apiVersion", "kind", *(f"metadata.{name}" for name in parse._METADATA)}
    common |= {f"spec.clusterRef.{name}" for name in parse._CLUSTER_REF}
    assert_the_same(general.names, common, "fields of every manifest")
    assert_the_same([*auth_key.names, *capability.names], spec, "fields of AuthKey and Capability")
    assert_the_same(problems.names, (reason.value for reason in ProblemReason), "what stops a key")


def test_every_member_of_our_files(tmp_path: Path) -> None:
    key, ticket, of_authnode, journal = read_tables("files.md")
    held = prepare(tmp_path).service_key_file
    assert_the_same(key.names, json.loads(held.to_json()), "members of a key file")
    grant = exchange.TicketGrant("a", "b", "c", held.auth_key, 0, 0)
    assert_the_same(ticket.names, json.loads(exchange.ticket_file(grant)), "members of a ticket file")
    assert {STORE_FILE, f"{STORE_FILE}.lock", REPLAY_FILE, WITNESS_FILE} <= set(of_authnode.names)
    rows = set(claims._TOP) | {f"claims[].{name}" for name in claims._CLAIM}
    assert_the_same(journal.names, rows, "members of the journal")
