"""The sidecar's configuration: what each setting means, and one line for whoever gets it wrong."""

from __future__ import annotations

import copy
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cubeauth import entropy
from cubeauth.errors import InputError
from cubeauth.keys import KeyFile
from cubeauth.phases import Mode
from cubeauth.secret import SecretBytes
from cubeauth_sidecar import app, config
from cubeauth_sidecar.config import Limits, SidecarConfig

KEYS = {name: KeyFile(name, SecretBytes(entropy.system(32))) for name in ("DatanodeService", "MasterService", "writer")}

GOOD: dict[str, Any] = {
    "keyFile": "DatanodeService.json",
    "authnode": {"endpoints": ["127.0.0.1:8080"]},
    "health": "127.0.0.1:9500",
    "accept": [
        {
            "name": "datanode",
            "listen": "0.0.0.0:27310",
            "forward": "127.0.0.1:17310",
            "service": "DatanodeService",
            "capability": "data:write:access",
        }
    ],
    "connect": [{"name": "data0", "listen": "127.0.0.1:17311", "peer": "10.0.0.7:27310", "service": "DataService"}],
}


def write(folder: Path, members: Any) -> Path:
    for name, key in KEYS.items():
        (folder / f"{name}.json").write_text(key.to_json())
    path = folder / "sidecar.yaml"
    path.write_text(members if isinstance(members, str) else yaml.safe_dump(members))
    return path


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], SidecarConfig]:
    monkeypatch.chdir(tmp_path)
    return lambda members: config.load(write(tmp_path, members))


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with the member at `path` set, or taken out for None."""
    members = copy.deepcopy(GOOD)
    place: Any = members
    *way, last = path.split(".")
    for part in way:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return members


def test_what_is_not_said_has_a_safe_default(load: Callable[[Any], SidecarConfig]) -> None:
    found = load(GOOD)
    (accept,), (connect,) = found.accept, found.connect
    assert (accept.mode, connect.mode) == (Mode.SEALED, Mode.SEALED)
    assert (found.grace, found.drain, found.audit, found.limits.idle) == (3600, 30, None, None)
    assert found.limits.handshakes < found.limits.connections


def test_every_setting_arrives(load: Callable[[Any], SidecarConfig]) -> None:
    members = copy.deepcopy(GOOD) | {
        "authnode": {"endpoints": ["a:1", "b:2"], "https": True, "caFile": "ca.pem"},
        "limits": {
            "connections": 100,
            "perPeer": 10,
            "handshakes": 20,
            "handshakesPerPeer": 5,
            "idle": "90s",
            "dial": "2s",
            "buffer": 65536,
        },
        "grace": "10m",
        "drain": "5s",
        "auditFile": "audit.log",
        "logLevel": "debug",
    }
    members["accept"][0] |= {"mode": "clear", "serviceKeyFile": "DatanodeService.json"}
    members["keyFile"] = "writer.json"
    found = load(members)
    assert [endpoint.url for endpoint in found.authnode.endpoints] == ["https://a:1", "https://b:2"]
    assert found.authnode.ca_file == Path("ca.pem")
    limits = found.limits
    assert (limits.connections, limits.per_peer, limits.handshakes, limits.handshakes_per_peer) == (100, 10, 20, 5)
    assert (limits.idle, limits.dial, limits.buffer) == (90, 2, 65536)
    assert (found.grace, found.drain, found.audit, found.log_level) == (600, 5, Path("audit.log"), "debug")
    (accept,) = found.accept
    assert (accept.listen, accept.forward, accept.mode) == (("0.0.0.0", 27310), ("127.0.0.1", 17310), Mode.CLEAR)
    assert (accept.service, accept.service_key) == ("DatanodeService", KEYS["DatanodeService"].auth_key)
    assert (found.client_id, found.key) == ("writer", KEYS["writer"].auth_key)


def test_the_user_guides_service_names_are_the_codes(load: Callable[[Any], SidecarConfig]) -> None:
    assert load(GOOD).connect[0].service == "DatanodeService"


def test_a_small_limit_of_connections_bounds_the_handshakes_too(load: Callable[[Any], SidecarConfig]) -> None:
    assert load(GOOD | {"limits": {"connections": 3}}).limits.handshakes == 3


@pytest.mark.parametrize(
    ("given", "share"), [({}, 64), ({"handshakes": 80}, 10), ({"handshakes": 1}, 1), ({"connections": 3}, 1)]
)
def test_one_address_has_an_eighth_of_the_handshakes_unless_told(
    load: Callable[[Any], SidecarConfig], given: dict[str, int], share: int
) -> None:
    assert load(GOOD | {"limits": given}).limits.handshakes_per_peer == share
    assert load(GOOD).limits == Limits()


ACCEPT, CONNECT = "accept.0", "connect.0"

WRONG: list[tuple[Any, str, str, str]] = [
    # members, the field that is named, part of the problem, part of the remedy
    ("keyFile: [", "", "not YAML", ""),
    ("- a list", "", "not one YAML mapping", "name: value"),
    ("keyFile: a\nkeyFile: b\n", "", "given twice", ""),
    (changed("keyfile", "x.json"), "keyfile", "unknown setting", "did you mean keyFile?"),
    (changed("accept.0.forwrad", "127.0.0.1:1"), "accept[0].forwrad", "unknown setting", "did you mean forward?"),
    (changed("limits.conections", 3), "limits.conections", "unknown setting", "did you mean connections?"),
    (changed("authnode.endpoint", "x"), "authnode.endpoint", "unknown setting", "did you mean endpoints?"),
    (changed("keyFile", None), "keyFile", "missing", "set keyFile"),
    (changed("keyFile", "gone.json"), "keyFile", "gone.json: cannot be read: No such file or directory", ""),
    (changed("keyFile", "sidecar.yaml"), "keyFile", "sidecar.yaml: ", "key file"),
    (changed("authnode.endpoints", None), "authnode.endpoints", "no Authnode address", "HOST:PORT"),
    (changed("authnode.endpoints", ["h:1", "nonsense::"]), "authnode.endpoints[1]", "'nonsense::' is no address", "HOST:PORT"),
    (changed("authnode.https", "yes please"), "authnode.https", "'yes please' is neither true nor false", ""),
    (changed("authnode.caFile", "ca.pem"), "authnode.caFile", "no endpoint is asked over https", "https: true"),
    (changed("health", "9500"), "health", "'9500' has no port", "host:port"),
    (changed("accept", {}), "accept", "an object is not a list", "begin every entry with a dash"),
    (changed("accept", ["x"]), "accept[0]", "'x' is not a mapping", "after the dash"),
    (changed("keyFile", "a\0b"), "keyFile", "'a\\x00b' is no path", "without"),
    (changed("auditFile", "\ud800"), "auditFile", "'\\ud800' is no path", "without"),
    ({k: v for k, v in GOOD.items() if k not in ("accept", "connect")}, "accept", "nothing to do", "add one"),
    (changed(f"{ACCEPT}.name", None), "accept[0].name", "missing", "set accept[0].name"),
    (changed(f"{ACCEPT}.name", "Data Node"), "accept[0].name", "'Data Node' is no name", "a-z"),
    (changed(f"{CONNECT}.name", "datanode"), "connect[0].name", "'datanode' is the name of accept[0] too", "another"),
    (changed(f"{ACCEPT}.listen", "datanode-0:1"), "accept[0].listen", "'datanode-0' is no address of this host", "IP address"),
    (changed(f"{ACCEPT}.listen", "1.2.3.4:70000"), "accept[0].listen", "'1.2.3.4:70000' has no port", "host:port"),
    (
        changed(f"{CONNECT}.listen", "127.0.0.1:27310"),
        "connect[0].listen",
        "port 27310 is the one of accept[0].listen too",
        "another",
    ),
    (changed("health", ":17311"), "connect[0].listen", "port 17311 is the one of health too", "another"),
    (changed(f"{CONNECT}.listen", "0.0.0.0:17311"), "connect[0].listen", "0.0.0.0 is not loopback", "127.0.0.1"),
    (changed(f"{CONNECT}.listen", ":17311"), "connect[0].listen", "every address is not loopback", "127.0.0.1"),
    (changed(f"{CONNECT}.peer", "10.0.0.7:0"), "connect[0].peer", "no port to connect to", "host:port"),
    (changed(f"{CONNECT}.peer", "127.0.0.1:17311"), "connect[0].peer", "the address that this entry listens on", "go"),
    (changed(f"{ACCEPT}.forward", ":17310"), "accept[0].forward", "no host to connect to", "host:port"),
    (changed(f"{ACCEPT}.service", "Data-Node"), "accept[0].service", "'Data-Node' is no service id", "an id has"),
    (changed(f"{ACCEPT}.service", "AuthService"), "accept[0].service", "AuthService is the Authnode itself", "secured port"),
    (
        changed(f"{ACCEPT}.service", "MasterService"),
        "accept[0].service",
        "'MasterService', but keyFile is the key of 'DatanodeService'",
        "accept[0].serviceKeyFile",
    ),
    (
        changed(f"{ACCEPT}.serviceKeyFile", "writer.json"),
        "accept[0].service",
        "'DatanodeService', but serviceKeyFile is the key of 'writer'",
        "accept[0].serviceKeyFile",
    ),
    (changed(f"{ACCEPT}.capability", None), "accept[0].capability", "missing", "set accept[0].capability"),
    (changed(f"{ACCEPT}.capability", "data:write"), "accept[0].capability", "'data:write' is no capability", "three parts"),
    (changed(f"{ACCEPT}.capability", "per-request"), "accept[0].capability", "needs a guard", "data:write:access"),
    (changed(f"{ACCEPT}.mode", "plain"), "accept[0].mode", "'plain' is none of sealed, clear", ""),
    (changed("limits.connections", 0), "limits.connections", "0 is not a whole number from 1", ""),
    (changed("limits", {"connections": 10, "handshakes": 11}), "limits.handshakes", "11 is not a whole number from 1 to 10", ""),
    (
        changed("limits", {"handshakes": 10, "handshakesPerPeer": 11}),
        "limits.handshakesPerPeer",
        "11 is not a whole number from 1 to 10",
        "",
    ),
    (changed("limits.idle", "0s"), "limits.idle", "0s is outside", ""),
    (changed("grace", 3600), "grace", "3600 is no duration", "1h"),
    (changed("grace", "2d"), "grace", "2d is outside", ""),
    (changed("drain", "soon"), "drain", "'soon' is no duration", "10s"),
    (changed("logLevel", "loud"), "logLevel", "'loud' is none of", ""),
]


@pytest.mark.parametrize(
    ("members", "field", "problem", "remedy"), WRONG, ids=lambda part: part if isinstance(part, str) else None
)
def test_what_is_wrong_is_told_in_one_line(
    load: Callable[[Any], SidecarConfig], tmp_path: Path, members: Any, field: str, problem: str, remedy: str
) -> None:
    with pytest.raises(InputError) as caught:
        load(members)
    line = str(caught.value)
    assert caught.value.field == field
    assert line.startswith(str(tmp_path / "sidecar.yaml"))
    assert problem in line
    assert remedy in line
    assert "\n" not in line
    for key in KEYS.values():
        for secret in (key.auth_key.reveal().hex(), yaml.safe_dump(key.to_json())):
            assert secret not in line


def test_no_key_is_in_the_configurations_repr(load: Callable[[Any], SidecarConfig]) -> None:
    text = repr(load(GOOD))
    assert "SecretBytes" not in text
    assert "key=" not in text


def test_more_connections_than_descriptors_are_refused_before_anything_starts(
    load: Callable[[Any], SidecarConfig], tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > 2 * (1 << 18):
        pytest.skip("this machine gives more than any configuration can want")
    path = write(tmp_path, GOOD | {"limits": {"connections": 1 << 18}})
    with pytest.raises(InputError) as caught:
        app.run(path)
    assert caught.value.field == "limits.connections"
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
