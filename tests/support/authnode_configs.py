"""Configurations of an Authnode for tests: stock's and ours, with changes, read from files."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import yaml

from cubeauth.keys import KeyFile
from cubeauth.secret import SecretBytes
from cubeauth_authnode import config
from cubeauth_authnode.config import AuthnodeConfig

ROOT, SERVICE = bytes(range(32)), bytes(range(100, 132))

ABSENT = object()


def encoded(key: bytes) -> str:
    return base64.b64encode(key).decode()


def stock_members(folder: Path) -> dict[str, Any]:
    """A file of stock's own form, every setting in it; one node."""
    return {
        "role": "authnode",
        "ip": "192.168.0.14",
        "port": "8080",
        "prof": "10088",
        "id": "1",
        "peers": "1:192.168.0.14:8080",
        "retainLogs": "2",
        "logDir": str(folder / "log"),
        "logLevel": "info",
        "walDir": str(folder / "raft"),
        "storeDir": str(folder / "rocksdbstore"),
        "exporterPort": 9510,
        "consulAddr": "http://consul.prometheus-cfs.local",
        "clusterName": "test",
        "authServiceKey": encoded(SERVICE),
        "authRootKey": encoded(ROOT),
        "enableHTTPS": False,
    }


def our_members(folder: Path) -> dict[str, Any]:
    return {
        "listen": "127.0.0.1:8080",
        "storeDir": str(folder / "store"),
        "rootKeyFile": str(folder / "root.json"),
        "serviceKeyFile": str(folder / "service.json"),
    }


def write_keys(folder: Path) -> None:
    for name, principal, key in (("root", "RootKey", ROOT), ("service", "AuthService", SERVICE)):
        (folder / f"{name}.json").write_text(KeyFile(principal, SecretBytes(key)).to_json())


def load(folder: Path, members: dict[str, Any], changes: dict[str, Any], *, as_json: bool) -> AuthnodeConfig:
    merged = {name: value for name, value in (members | changes).items() if value is not ABSENT}
    path = folder / ("authnode.json" if as_json else "authnode.yaml")
    path.write_text(json.dumps(merged) if as_json else yaml.safe_dump(merged))
    return config.load(path)
