"""The Authnode's configuration: a stock JSON file unchanged, or our YAML. What is wrong is refused before anything starts.

Which of the two it is, `role` tells: stock's own files must have it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from cubeauth import ids, strictjson
from cubeauth.errors import InputError, MalformedMessage, shown
from cubeauth.secret import SecretBytes
from cubeauth.ticket import STOCK_LIFETIME
from cubeauth.verifier import SKEW
from cubeauth_runtime import documents, files, key_files
from cubeauth_runtime.documents import Section
from cubeauth_runtime.logs import LEVELS

KEY_BYTES = 32
DEFAULT_REPLAY_ENTRIES = 1 << 20
"""32 MiB shared: 20 s of 35,000 proofs a second."""

STOCK_CERTIFICATE = Path("/app/server.crt")
STOCK_CERTIFICATE_KEY = Path("/app/server.key")

# Stock's guides print these two; whoever copied them shares a root key with every reader.
_PUBLISHED_KEYS = frozenset({"9h/sNq4+5CUAyCnAZM927Y/gubgmSixh5hpsYQzZG20=", "wbpvIcHT/bLxLNZhfo5IhuNtdnw1n8kom+TimS2jpzs="})
_MAKE_KEYS = "make new ones with `cubeauth authtool authkey`"
_STOCK_WITHOUT_MEANING = (
    "id",
    "prof",
    "retainLogs",
    "consulAddr",
    "clusterName",
    "heartbeatPort",
    "replicaPort",
    "tickInterval",
    "electionTick",
    "warnLogDir",
)

_OF_STOCK_ALONE = frozenset({"authRootKey", "authServiceKey", "walDir", "peers", "ip", "port"})
"""A file with one of these was meant for stock's Authnode."""

_PEER = re.compile(r"[0-9]{1,20}:(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
_STOCK_LEVELS = {level: level for level in LEVELS} | {"warning": "warn", "critical": "error", "fatal": "error"}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """setting: the one that named them."""

    certificate: Path
    key: Path
    setting: str = field(default="tls", compare=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """Per worker process. Seconds and bytes."""

    connections: int = 4096
    per_peer: int = 1024
    request_seconds: float = 10.0
    idle_seconds: float = 60.0
    header_bytes: int = 16 * 1024
    pending_admin: int = 256


_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class AuthnodeConfig:
    """Everything an Authnode needs to know. lifetime, skew: seconds; audit: None means standard output.

    witness_setting: what the file calls `witness`.
    """

    source: str
    host: str
    port: int
    store: Path
    witness: Path
    root_key: SecretBytes = field(repr=False)
    service_key: SecretBytes = field(repr=False)
    root_key_beside_store: bool
    tls: TlsFiles | None
    metrics: tuple[str, int] | None
    audit: Path | None
    log_level: str = "info"
    workers: int = 2
    lifetime: int = 3600
    skew: int = SKEW
    require_bound: frozenset[str] | None = frozenset()
    trusted_proxies: tuple[Network, ...] = ()
    replay_entries: int = DEFAULT_REPLAY_ENTRIES
    limits: Limits = field(default_factory=Limits)
    without_meaning: tuple[str, ...] = ()
    witness_setting: str = "witnessDir"


def load(path: Path) -> AuthnodeConfig:
    """Read and check a configuration file. Raises InputError naming file, field and remedy."""
    members = documents.load(path)
    section = Section(members, str(path))
    if "role" not in members and not _OF_STOCK_ALONE.isdisjoint(members):
        raise section.error("role", "missing, and the other settings are stock's", "set role: authnode")
    config = _stock(section) if "role" in members else _ours(section)
    section.finish()
    _check_metrics(section, config, *(("exporterPort", "port") if "role" in members else ("metrics", "listen")))
    if config.root_key == config.service_key:
        raise section.error("", "the root key and the AuthService key are the same", _MAKE_KEYS)
    return config


def _check_metrics(section: Section, config: AuthnodeConfig, setting: str, other: str) -> None:
    """Refuse one port for two things: the metrics port would answer those who want tickets."""
    if config.metrics is not None and documents.overlap(config.metrics, (config.host, config.port)):
        raise section.error(setting, f"port {config.port} is the one of {other} too", "choose another")


def _key(section: Section, name: str, encoded: str) -> SecretBytes:
    """A key of full strength: missing, short, published and patterned ones are refused."""
    try:
        key = strictjson.b64decode(encoded)
    except MalformedMessage:
        raise section.error(name, "not base64", _MAKE_KEYS) from None
    if len(key) != KEY_BYTES:
        raise section.error(name, f"weak: {len(key)} bytes where {KEY_BYTES} belong", _MAKE_KEYS)
    if encoded in _PUBLISHED_KEYS:
        raise section.error(name, "weak: this key is printed in CubeFS's guides", _MAKE_KEYS)
    if len(set(key)) < KEY_BYTES // 3:
        raise section.error(name, "weak: it repeats itself", _MAKE_KEYS)
    return SecretBytes(key)


def _stock(section: Section) -> AuthnodeConfig:
    """A stock Authnode's JSON file (protocol-v1, section 10)."""
    section.choice("role", ["authnode"])
    ip = section.text("ip")
    try:
        ipaddress.ip_address(ip)
    except ValueError:
        raise section.error("ip", f"{shown(ip)} is no address", "write this host's, such as 192.168.0.14") from None
    port = _stock_number(section, "port", low=1)
    _check_peers(section)
    store, wal = section.path("storeDir"), section.path("walDir")
    if store.resolve() == wal.resolve():
        raise section.error("walDir", "the same folder as storeDir", "the second copy of the write sequence belongs elsewhere")
    exporter = _stock_number(section, "exporterPort", low=0) if section.has("exporterPort") else 0
    https = _stock_flag(section, "enableHTTPS")
    audit = section.path("logDir") / "audit.log" if section.has("logDir") else None
    return AuthnodeConfig(
        source=section.source,
        host="",  # stock listens on all addresses; ip is what it tells its peers
        port=port,
        store=store,
        witness=wal,
        root_key=_key(section, "authRootKey", section.secret("authRootKey")),
        service_key=_key(section, "authServiceKey", section.secret("authServiceKey")),
        root_key_beside_store=True,
        tls=_readable(section, "enableHTTPS", TlsFiles(STOCK_CERTIFICATE, STOCK_CERTIFICATE_KEY, "enableHTTPS"))
        if https
        else None,
        metrics=("", exporter) if exporter else None,
        audit=audit,
        log_level=_stock_level(section),
        workers=default_workers(),
        lifetime=STOCK_LIFETIME,
        without_meaning=section.ignored(_STOCK_WITHOUT_MEANING),
        witness_setting="walDir",
    )


def _check_peers(section: Section) -> None:
    """One node, written ID:HOST:PORT as stock has it."""
    peers = [peer for peer in section.text("peers").split(",") if peer]
    if len(peers) != 1:
        raise section.error(
            "peers",
            f"{len(peers)} nodes; this version keeps its keys in one process",
            "name this node alone, and import the others' keys with `cubeauth authnode import`",
        )
    node = _PEER.fullmatch(peers[0])
    if node is None or not 0 < int(node[1]) <= 65535:
        raise section.error("peers", f"{shown(peers[0])} is no node", "write it as ID:HOST:PORT, such as 1:192.168.0.14:8080")


def _stock_level(section: Section) -> str:
    """Stock does not mind the case, and has three levels that we do not."""
    value = section.text("logLevel", "info")
    if value.lower() not in _STOCK_LEVELS:
        raise section.error("logLevel", f"{shown(value)} is none of {', '.join(_STOCK_LEVELS)}", "write one of them")
    return _STOCK_LEVELS[value.lower()]


def _stock_number(section: Section, name: str, *, low: int) -> int:
    """Stock writes ports as texts and as numbers."""
    value = section.raw(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        value = int(value)
    if type(value) is not int or not low <= value <= 65535:
        raise section.error(
            name, f"{shown(value)} is no port" if value is not None else "missing", f"a number from {low} to 65535"
        )
    return value


def _stock_flag(section: Section, name: str) -> bool:
    """Stock's other programs write booleans as texts."""
    value = section.raw(name)
    if value in (None, False, "false", ""):
        return False
    if value in (True, "true"):
        return True
    raise section.error(name, f"{shown(value)} is neither true nor false", "write one of them")


def _readable(section: Section, name: str, tls: TlsFiles) -> TlsFiles:
    for path in (tls.certificate, tls.key):
        try:
            files.read_bounded(path)
        except InputError as e:
            raise section.error(name, f"{path} {e.problem}", e.remedy) from None
    return tls


def default_workers() -> int:
    """One for each processor, two at least, so that one may die while the other answers."""
    return max(2, min(os.cpu_count() or 2, 16))


def _ours(section: Section) -> AuthnodeConfig:
    """Our YAML; docs/reference/authnode-configuration.md has every setting."""
    host, port = section.address("listen")
    store = section.path("storeDir")
    witness = section.path("witnessDir", store.with_name(f"{store.name}-witness"))
    if witness.resolve() == store.resolve():
        raise section.error(
            "witnessDir", "the same folder as storeDir", "the second copy of the write sequence belongs elsewhere"
        )
    root_key_file = section.path("rootKeyFile")
    tls_section, ticket, limits = section.section("tls"), section.section("ticket"), section.section("limits")
    tls = None
    if tls_section.has("certFile") or tls_section.has("keyFile"):
        tls = _readable(tls_section, "certFile", TlsFiles(tls_section.path("certFile"), tls_section.path("keyFile")))
    tls_section.finish()
    config = AuthnodeConfig(
        source=section.source,
        host=host,
        port=port,
        store=store,
        witness=witness,
        root_key=_key_file(section, "rootKeyFile", root_key_file),
        service_key=_key_file(section, "serviceKeyFile", section.path("serviceKeyFile"), ids.AUTH_SERVICE),
        root_key_beside_store=root_key_file.resolve().is_relative_to(store.resolve()),
        tls=tls,
        metrics=section.address("metrics") if section.has("metrics") else None,
        audit=section.path("auditFile") if section.has("auditFile") else None,
        log_level=section.choice("logLevel", LEVELS, "info"),
        workers=section.integer("workers", default_workers(), low=1, high=64),
        lifetime=int(ticket.duration("lifetime", 3600, low=1, high=7 * 86400)),
        skew=int(ticket.duration("skew", SKEW, low=1, high=300)),
        require_bound=_require_bound(section),
        trusted_proxies=section.networks("trustedProxies"),
        replay_entries=section.integer("replayEntries", DEFAULT_REPLAY_ENTRIES, low=1024, high=1 << 28),
        limits=Limits(
            connections=limits.integer("connections", _LIMITS.connections, low=1, high=1 << 20),
            per_peer=limits.integer("perPeer", _LIMITS.per_peer, low=1, high=1 << 20),
            request_seconds=limits.duration("requestTime", _LIMITS.request_seconds, low=1, high=300),
            idle_seconds=limits.duration("idleTime", _LIMITS.idle_seconds, low=1, high=3600),
        ),
    )
    ticket.finish()
    limits.finish()
    return config


def _key_file(section: Section, name: str, path: Path, principal: str = "") -> SecretBytes:
    key_file = key_files.read(section, name, path)
    if principal and key_file.id != principal:
        raise section.error(
            name, f"{path} is the key of {key_file.id!r}, not of {principal}", f"name the key file of {principal}"
        )
    return _key(section, name, strictjson.b64encode(key_file.auth_key.reveal()))


def _require_bound(section: Section) -> frozenset[str] | None:
    """Whose verifiers must be bound to their request: a list of ids, or "*" for all (None)."""
    names = section.texts("requireBoundVerifier")
    if names == ("*",):
        return None
    for i, name in enumerate(names):
        if not ids.valid_id(name):
            raise section.error(f"requireBoundVerifier[{i}]", f"{shown(name)} is not an id", 'name ids, or write ["*"] for all')
    return frozenset(names)
