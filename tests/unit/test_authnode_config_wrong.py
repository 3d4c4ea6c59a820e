"""Wrong configurations of an Authnode: each gets one line that names the field, the value and the remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.authnode_configs import ABSENT, encoded, load, our_members, stock_members, write_keys

from cubeauth.errors import InputError
from cubeauth.keys import KeyFile
from cubeauth.secret import SecretBytes
from cubeauth_authnode import config
from cubeauth_authnode.config import AuthnodeConfig

ROOT, SERVICE = bytes(range(32)), bytes(range(100, 132))


@pytest.fixture
def stock(tmp_path: Path) -> Callable[..., AuthnodeConfig]:
    return lambda **changes: load(tmp_path, stock_members(tmp_path), changes, as_json=True)


@pytest.fixture
def ours(tmp_path: Path) -> Callable[..., AuthnodeConfig]:
    write_keys(tmp_path)
    return lambda **changes: load(tmp_path, our_members(tmp_path), changes, as_json=False)


# What is wrong. A row: changes, field, a piece of the line.

_OTHER = encoded(bytes(range(50, 82)))
_SHORT = encoded(bytes(range(16)))
STOCK_WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"role": "master"}, "role", "'master' is none of authnode"),
    ({"role": 7}, "role", "not a text"),
    ({"ip": "authnode-0"}, "ip", "'authnode-0' is no address; write this host's, such as"),
    ({"ip": ABSENT}, "ip", "missing; set ip"),
    ({"port": ABSENT}, "port", "missing"),
    ({"port": "http"}, "port", "'http' is no port"),
    ({"port": "0"}, "port", "0 is no port"),
    ({"port": 65536}, "port", "65536 is no port; a number from 1 to 65535"),
    ({"port": "9" * 5000}, "port", "is no port"),
    ({"port": -1}, "port", "-1 is no port"),
    ({"port": 8080.5}, "port", "8080.5 is no port"),
    ({"port": True}, "port", "True is no port"),
    ({"peers": ABSENT}, "peers", "missing"),
    ({"peers": ""}, "peers", "empty"),
    ({"peers": ","}, "peers", "0 nodes"),
    ({"peers": "1:a:1,2:b:2,3:c:3"}, "peers", "3 nodes; this version keeps its keys in one process"),
    ({"peers": "xx"}, "peers", "'xx' is no node; write it as ID:HOST:PORT, such as 1:192.168.0.14:8080"),
    ({"peers": "1:192.168.0.14"}, "peers", "'1:192.168.0.14' is no node"),
    ({"peers": "a:192.168.0.14:8080"}, "peers", "is no node"),
    ({"peers": "1::8080"}, "peers", "is no node"),
    ({"peers": "1:a:0"}, "peers", "is no node"),
    ({"peers": "1:a:65536"}, "peers", "is no node"),
    ({"peers": "1:a:80:80"}, "peers", "is no node"),
    ({"role": ABSENT}, "role", "missing, and the other settings are stock's; set role: authnode"),
    ({"exporterPort": "8080"}, "exporterPort", "port 8080 is the one of port too; choose another"),
    ({"storeDir": ABSENT}, "storeDir", "missing"),
    ({"storeDir": "a\0b"}, "storeDir", "'a\\x00b' is no path: no file's name has such a character"),
    ({"walDir": "\ud800"}, "walDir", "is no path"),
    ({"logDir": "\udfff"}, "logDir", "is no path"),
    ({"authRootKey": 12345678}, "authRootKey", "not a text; put it in quotes"),
    ({"walDir": ABSENT}, "walDir", "missing"),
    ({"walDir": "rocksdbstore", "storeDir": "rocksdbstore/"}, "walDir", "the same folder as storeDir"),
    ({"exporterPort": "many"}, "exporterPort", "'many' is no port"),
    ({"exporterPort": 70000}, "exporterPort", "70000 is no port"),
    ({"enableHTTPS": "yes"}, "enableHTTPS", "'yes' is neither true nor false"),
    ({"enableHTTPS": []}, "enableHTTPS", "neither true nor false"),
    ({"logLevel": "verbose"}, "logLevel", "'verbose' is none of debug"),
    ({"logDir": 3}, "logDir", "not a text"),
    ({"authRootKey": ABSENT}, "authRootKey", "missing"),
    ({"authRootKey": "!!"}, "authRootKey", "not base64; make new ones with `cubeauth authtool authkey`"),
    ({"authRootKey": _SHORT}, "authRootKey", "weak: 16 bytes where 32 belong"),
    ({"authRootKey": encoded(ROOT)[:-1]}, "authRootKey", "not base64"),
    ({"authServiceKey": encoded(bytes(32))}, "authServiceKey", "weak: it repeats itself"),
    ({"authServiceKey": "MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE="}, "authServiceKey", "weak: it repeats itself"),
    ({"authServiceKey": "9h/sNq4+5CUAyCnAZM927Y/gubgmSixh5hpsYQzZG20="}, "authServiceKey", "weak: this key is printed in"),
    ({"authRootKey": "wbpvIcHT/bLxLNZhfo5IhuNtdnw1n8kom+TimS2jpzs="}, "authRootKey", "weak: this key is printed in"),
    ({"authServiceKey": encoded(ROOT)}, "", "the root key and the AuthService key are the same"),
    ({"exporterport": 9510}, "exporterport", "unknown setting; did you mean exporterPort?"),
    ({"certFile": "x"}, "certFile", "unknown setting"),
    ({"listen": "8080"}, "listen", "unknown setting"),
]
OUR_WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"listen": ABSENT}, "listen", "missing; set listen"),
    ({"listen": 8080}, "listen", "8080 is not a text; write it as host:port"),
    ({"listen": "a\0b:80"}, "listen", "'a\\x00b:80' has no host name or address; write it as host:port"),
    ({"listen": "a..b:80"}, "listen", "has no host name or address"),
    ({"listen": f"{'a' * 64}:80"}, "listen", "has no host name or address"),
    ({"storeDir": ""}, "storeDir", "empty; give storeDir a value"),
    ({"limits": "many"}, "limits", "'many' is not a mapping; write name: value lines, indented"),
    ({"tls": ["a"]}, "tls", "a list is not a mapping"),
    ({"trustedProxies": ["10.0.0.0/8", 7]}, "trustedProxies", "a list with something else in it is not a list of texts"),
    *(
        ({name: value}, name, "is no path: no file's name has such a character")
        for name in ("storeDir", "witnessDir", "rootKeyFile", "serviceKeyFile", "auditFile")
        for value in ("a\0b", "\ud800")
    ),
    ({"tls": {"certFile": "a\0b", "keyFile": "k"}}, "tls.certFile", "'a\\x00b' is no path"),
    ({"tls": {"certFile": "root.json", "keyFile": "\udfff"}}, "tls.keyFile", "'\\udfff' is no path"),
    ({"listen": "8080"}, "listen", "write it as host:port"),
    ({"listen": "127.0.0.1:http"}, "listen", "has no port from 0 to 65535; write it as host:port"),
    ({"listen": "127.0.0.1:65536"}, "listen", "has no port"),
    ({"listen": "127.0.0.1:٣"}, "listen", "has no port"),
    ({"listen": f":{'9' * 5000}"}, "listen", "has no port"),
    ({"metrics": "9100x"}, "metrics", "has no port"),
    ({"metrics": "127.0.0.1:8080"}, "metrics", "port 8080 is the one of listen too; choose another"),
    ({"metrics": "localhost:8080"}, "metrics", "port 8080 is the one of listen too"),
    ({"metrics": "[0::0]:8080"}, "metrics", "port 8080 is the one of listen too"),
    ({"metrics": ":8080"}, "metrics", "port 8080 is the one of listen too"),
    ({"metrics": "0.0.0.0:8080"}, "metrics", "port 8080 is the one of listen too"),
    ({"metrics": "[::]:8080"}, "metrics", "port 8080 is the one of listen too"),
    ({"metrics": "127.0.0.1:9100", "listen": ":9100"}, "metrics", "port 9100 is the one of listen too"),
    ({"storeDir": ABSENT}, "storeDir", "missing"),
    ({"storeDir": ["a"]}, "storeDir", "not a text"),
    ({"witnessDir": "store", "storeDir": "./store"}, "witnessDir", "the same folder as storeDir"),
    ({"rootKeyFile": ABSENT}, "rootKeyFile", "missing"),
    ({"rootKeyFile": "/nosuch/root.json"}, "rootKeyFile", "/nosuch/root.json: cannot be read: No such file or directory; is"),
    ({"rootKeyFile": "/"}, "rootKeyFile", "cannot be read: Is a directory"),
    ({"serviceKeyFile": "root.json"}, "serviceKeyFile", "is the key of 'RootKey', not of AuthService"),
    ({"serviceKeyFile": "spoilt.json"}, "serviceKeyFile", "spoilt.json: auth_key: missing or not a string"),
    ({"serviceKeyFile": "weak.json"}, "serviceKeyFile", "weak: 16 bytes where 32 belong"),
    ({"serviceKeyFile": "binary.json"}, "serviceKeyFile", "not UTF-8 text; save it as UTF-8"),
    ({"rootKeyFile": "same.json"}, "", "the root key and the AuthService key are the same"),
    ({"tls": "yes"}, "tls", "not a mapping"),
    ({"tls": {"certFile": "/nosuch.pem", "keyFile": "/nosuch.key"}}, "tls.certFile", "/nosuch.pem cannot be read: No such file"),
    ({"tls": {"certFile": "root.json"}}, "tls.keyFile", "missing; set tls.keyFile"),
    ({"tls": {"keyfile": "x"}}, "tls.keyfile", "unknown setting; did you mean keyFile?"),
    ({"ticket": {"lifetime": 3600}}, "ticket.lifetime", "3600 is no duration; write it as 500ms, 10s, 5m, 1h or 1d"),
    ({"ticket": {"lifetime": "8d"}}, "ticket.lifetime", "8d is outside 1s to 604800s"),
    ({"ticket": {"skew": "0s"}}, "ticket.skew", "0s is outside 1s to 300s"),
    ({"ticket": {"skew": "1 h"}}, "ticket.skew", "'1 h' is no duration"),
    ({"ticket": {"skew": f"{'9' * 400}d"}}, "ticket.skew", "is no duration"),
    ({"ticket": {"life": "1h"}}, "ticket.life", "unknown setting"),
    ({"limits": {"connections": 0}}, "limits.connections", "0 is not a whole number from 1"),
    ({"limits": {"connections": "many"}}, "limits.connections", "'many' is not a whole number"),
    ({"limits": {"requestTime": "1ms"}}, "limits.requestTime", "1ms is outside"),
    ({"limits": {"idleTime": "2h"}}, "limits.idleTime", "2h is outside"),
    ({"workers": 0}, "workers", "0 is not a whole number from 1 to 64"),
    ({"workers": True}, "workers", "True is not a whole number"),
    ({"replayEntries": 10}, "replayEntries", "10 is not a whole number from 1024"),
    ({"logLevel": "loud"}, "logLevel", "'loud' is none of debug, info, warn, error"),
    ({"trustedProxies": "10.0.0.0/8"}, "trustedProxies", "not a list of texts"),
    ({"trustedProxies": ["10.0.0.1/8"]}, "trustedProxies[0]", "'10.0.0.1/8' is no network"),
    ({"trustedProxies": ["10.0.0.0/8", "proxy"]}, "trustedProxies[1]", "'proxy' is no network; write it as 10.0.0.0/8"),
    ({"requireBoundVerifier": "*"}, "requireBoundVerifier", "not a list of texts"),
    ({"requireBoundVerifier": ["a", "*"]}, "requireBoundVerifier[1]", "'*' is not an id"),
    ({"auditfile": "x"}, "auditfile", "unknown setting; did you mean auditFile?"),
    ({"authRootKey": "x"}, "role", "missing, and the other settings are stock's"),
]


def _id(row: tuple[dict[str, Any], str, str]) -> str:
    ((name, value), *_) = row[0].items()
    return f"{name}={'absent' if value is ABSENT else value!r:.40}"


def check_line(error: InputError, folder: Path, field: str, piece: str) -> None:
    line = str(error)
    assert error.field == field
    assert piece in line
    assert line.startswith(str(folder / "authnode."))
    assert "\n" not in line
    for secret in (encoded(ROOT), encoded(SERVICE), _OTHER, _SHORT, "12345678"):
        assert secret not in line


@pytest.mark.parametrize(("changes", "field", "piece"), STOCK_WRONG, ids=map(_id, STOCK_WRONG))
def test_a_wrong_stock_file_gets_one_line(
    stock: Callable[..., AuthnodeConfig], tmp_path: Path, changes: dict[str, Any], field: str, piece: str
) -> None:
    with pytest.raises(InputError) as caught:
        stock(**changes)
    check_line(caught.value, tmp_path, field, piece)


@pytest.mark.parametrize(("changes", "field", "piece"), OUR_WRONG, ids=map(_id, OUR_WRONG))
def test_a_wrong_file_of_ours_gets_one_line(
    ours: Callable[..., AuthnodeConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    field: str,
    piece: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spoilt.json").write_text('{"id": "AuthService"}')
    Path("weak.json").write_text(KeyFile("AuthService", SecretBytes(ROOT[:16])).to_json())
    Path("binary.json").write_bytes(b"\xff\xfe")
    Path("same.json").write_text(KeyFile("RootKey", SecretBytes(SERVICE)).to_json())
    with pytest.raises(InputError) as caught:
        ours(**changes)
    check_line(caught.value, tmp_path, field, piece)


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("", "not one YAML mapping"),
        ("- a\n", "not one YAML mapping"),
        ("a: b\n---\nc: d\n", "not one YAML mapping"),
        ("listen: a: b\n", "not YAML"),
        ("listen: x\nlisten: y\n", ":2: not YAML: key 'listen' given twice; correct that line"),
        ("workers: 1\n[1, 2]: x\n", ":2: not YAML: a list as a key, which is no text"),
        (f"listen: x\nworkers: {'9' * 6000}\n", ":2: not YAML: a number of 6000 characters"),
        (f"workers: 0x{'f' * 6000}\n", ":1: not YAML: a number of 6002 characters"),
        ("[" * 100_000, ":1: not YAML: nested too deeply"),
        ("workers: 1\nlisten: 2020-99-99\n", ":2: not YAML: '2020-99-99' is no timestamp"),
        ("workers: !!bool 7\n", ":1: not YAML: '7' is no bool"),
        ("workers: 1\nlisten: a\0b\n", ":2: not YAML: '\\x00' cannot stand in it"),
        ('workers: 1\nlisten: "\\UFFFFFFFF"\n', ":2: not YAML: an escape that stands for no character"),
        ("listen: a:80\nauditFile: *other\n", ":2: not YAML: found undefined alias"),
        ("listen: !!python/object:os.system x\n", "not YAML"),
        ('{"role": "authnode", "role": "authnode"}', "duplicated JSON member"),
        ('{"role": "authnode",}', "not JSON"),
        ('{"role": "authnode"', "not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, text: str, piece: str) -> None:
    path = tmp_path / "authnode.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        config.load(path)
    assert str(caught.value).startswith(str(path))
    assert piece in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        config.load(tmp_path / "nosuch.json")
    assert str(caught.value) == f"{tmp_path}/nosuch.json: cannot be read: No such file or directory; is the path right?"


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError) as caught:
        config.load(tmp_path / "pipe")
    assert str(caught.value) == f"{tmp_path}/pipe: not a regular file; name a file; what a pipe gives, save first"
