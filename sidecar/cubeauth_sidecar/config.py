"""The sidecar's configuration: what is wrong is refused before anything listens.

docs/reference/sidecar-configuration.md has every setting.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cubeauth import caps, ids
from cubeauth.admission import PER_REQUEST
from cubeauth.errors import InputError
from cubeauth.keys import KeyFile
from cubeauth.lifetime import DEFAULT_GRACE
from cubeauth.phases import Mode
from cubeauth.secret import SecretBytes
from cubeauth_client.endpoints import Endpoint, parse_endpoint, parse_endpoints
from cubeauth_runtime import documents, key_files
from cubeauth_runtime.documents import Section
from cubeauth_runtime.logs import LEVELS

Address = tuple[str, int]
"""host, "" for all addresses, and port."""

MAX_ENTRIES = 64
"""Listeners of one sidecar; a CubeFS node has under ten ports."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_MODES = {mode.value: mode for mode in Mode}


@dataclass(frozen=True, slots=True)
class AuthnodeSettings:
    endpoints: tuple[Endpoint, ...]
    ca_file: Path | None


@dataclass(frozen=True, slots=True)
class AcceptEntry:
    """A secured listener. setting: its place in the file."""

    setting: str
    name: str
    listen: Address
    forward: Address
    service: str
    service_key: SecretBytes = field(repr=False)
    capability: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class ConnectEntry:
    """A plain listener whose connections go out secured."""

    setting: str
    name: str
    listen: Address
    peer: Address
    service: str
    mode: Mode


HANDSHAKES_SHARE = 8
"""One network address has an eighth of the places for handshakes, unless configured."""


@dataclass(frozen=True, slots=True)
class Limits:
    """connections: of all listeners. per_peer: of one network address; handshakes: of strangers that are not known yet;
    handshakes_per_peer: of those, from one network address, so that one cannot shut out the others.

    idle, dial: seconds. buffer: bytes that may wait to be written to one socket before reading from the other stops.
    """

    connections: int = 4096
    per_peer: int = 1024
    handshakes: int = 512
    handshakes_per_peer: int = 512 // HANDSHAKES_SHARE
    idle: float | None = None
    dial: float = 5.0
    buffer: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SidecarConfig:
    """grace, drain: seconds. audit: None means standard output."""

    source: str
    client_id: str
    key: SecretBytes = field(repr=False)
    authnode: AuthnodeSettings
    health: Address | None
    accept: tuple[AcceptEntry, ...]
    connect: tuple[ConnectEntry, ...]
    limits: Limits
    grace: float
    drain: float
    audit: Path | None
    log_level: str


def load(path: Path) -> SidecarConfig:
    """Read and check a configuration file. Raises InputError naming file, field and remedy."""
    section = Section(documents.load(path), str(path))
    own = _key_file(section, "keyFile")
    authnode = _authnode(section.section("authnode"))
    accept = tuple(_accept(entry, f"accept[{i}]", own) for i, entry in enumerate(section.sections("accept")))
    connect = tuple(_connect(entry, f"connect[{i}]") for i, entry in enumerate(section.sections("connect")))
    config = SidecarConfig(
        source=str(path),
        client_id=own.id,
        key=own.auth_key,
        authnode=authnode,
        health=_listen(section, "health") if section.has("health") else None,
        accept=accept,
        connect=connect,
        limits=_limits(section.section("limits")),
        grace=section.duration("grace", DEFAULT_GRACE, low=0, high=86400),
        drain=section.duration("drain", 30, low=0, high=3600),
        audit=section.path("auditFile") if section.has("auditFile") else None,
        log_level=section.choice("logLevel", LEVELS, "info"),
    )
    section.finish()
    _check_together(section, config)
    return config


def _check_together(section: Section, config: SidecarConfig) -> None:
    entries: list[AcceptEntry | ConnectEntry] = [*config.accept, *config.connect]
    if not entries:
        raise section.error("accept", "nothing to do: neither accept nor connect has an entry", "add one")
    if len(entries) > MAX_ENTRIES:
        raise section.error("accept", f"{len(entries)} entries in accept and connect", f"at most {MAX_ENTRIES}")
    taken = [("health", config.health)] if config.health else []
    names: dict[str, str] = {}
    for entry in entries:
        if entry.name in names:
            raise section.error(
                f"{entry.setting}.name", f"{entry.name!r} is the name of {names[entry.name]} too", "choose another"
            )
        names[entry.name] = entry.setting
        _check_free(section, f"{entry.setting}.listen", entry.listen, taken)
        taken.append((f"{entry.setting}.listen", entry.listen))
    for setting, target, listen in (
        *((f"{entry.setting}.forward", entry.forward, entry.listen) for entry in config.accept),
        *((f"{entry.setting}.peer", entry.peer, entry.listen) for entry in config.connect),
    ):
        if target == listen:
            raise section.error(setting, "the address that this entry listens on", "name where its connections are to go")


def _check_free(section: Section, setting: str, listen: Address, taken: Iterable[tuple[str, Address]]) -> None:
    for other, address in taken:
        if documents.overlap(listen, address):
            raise section.error(setting, f"port {listen[1]} is the one of {other} too", "choose another")


def _authnode(section: Section) -> AuthnodeSettings:
    https = section.flag("https", False)
    texts = section.texts("endpoints")
    for i, text in enumerate(texts):
        try:
            parse_endpoint(text, https=https)
        except InputError as e:
            raise section.error(f"endpoints[{i}]", e.problem, e.remedy) from None
    try:
        endpoints = parse_endpoints(texts, https=https)
    except InputError as e:
        raise section.error("endpoints", e.problem, e.remedy) from None
    ca_file = section.path("caFile") if section.has("caFile") else None
    if ca_file is not None and not any(endpoint.https for endpoint in endpoints):
        raise section.error("caFile", "set, but no endpoint is asked over https", "set authnode.https: true, or drop caFile")
    section.finish()
    return AuthnodeSettings(endpoints, ca_file)


def _accept(section: Section, setting: str, own: KeyFile) -> AcceptEntry:
    name = _name(section)
    service = _service(section)
    key_setting = "serviceKeyFile" if section.has("serviceKeyFile") else ""
    key = _key_file(section, key_setting) if key_setting else own
    if ids.canonical_service(key.id) != service:
        which = "serviceKeyFile is" if key_setting else "keyFile is"
        remedy = f"name the key file of {service} in {setting}.serviceKeyFile"
        raise section.error("service", f"{service!r}, but {which} the key of {key.id!r}", remedy)
    entry = AcceptEntry(
        setting,
        name,
        _listen(section, "listen"),
        _target(section, "forward"),
        service,
        key.auth_key,
        _capability(section),
        _mode(section),
    )
    section.finish()
    return entry


def _connect(section: Section, setting: str) -> ConnectEntry:
    entry = ConnectEntry(setting, _name(section), _loopback(section), _target(section, "peer"), _service(section), _mode(section))
    section.finish()
    return entry


def _limits(section: Section) -> Limits:
    default = Limits()
    connections = section.integer("connections", default.connections, low=1, high=1 << 18)
    handshakes = section.integer("handshakes", min(default.handshakes, connections), low=1, high=connections)
    share = max(1, handshakes // HANDSHAKES_SHARE)
    limits = Limits(
        connections=connections,
        per_peer=section.integer("perPeer", default.per_peer, low=1, high=1 << 18),
        handshakes=handshakes,
        handshakes_per_peer=section.integer("handshakesPerPeer", share, low=1, high=handshakes),
        idle=section.duration("idle", 0, low=1, high=7 * 86400) if section.has("idle") else None,
        dial=section.duration("dial", default.dial, low=0.1, high=60),
        buffer=section.integer("buffer", default.buffer, low=64 * 1024, high=64 * 1024 * 1024),
    )
    section.finish()
    return limits


def _name(section: Section) -> str:
    name = section.text("name")
    if not _NAME.fullmatch(name):
        raise section.error("name", f"{name!r} is no name", "1 to 40 of a-z, 0-9 and -, not at its ends")
    return name


def _service(section: Section) -> str:
    given = section.text("service")
    service = ids.canonical_service(given)
    if not ids.valid_id(service):
        raise section.error("service", f"{given!r} is no service id", f"an id has {ids.ID_RULE}")
    if service == ids.AUTH_SERVICE:
        raise section.error("service", f"{service} is the Authnode itself", "name the service behind the secured port")
    return service


def _capability(section: Section) -> str:
    capability = section.text("capability")
    if capability == PER_REQUEST:
        raise section.error(
            "capability",
            f"{PER_REQUEST} needs a guard that reads the requests, and this version has none",
            "name the one capability that a ticket must hold, such as data:write:access",
        )
    if not caps.valid(caps.Kind.API, capability):
        remedy = "three parts of 1 to 20 letters, digits or *, with : between"
        raise section.error("capability", f"{capability!r} is no capability", remedy)
    return capability


def _mode(section: Section) -> Mode:
    return _MODES[section.choice("mode", _MODES, Mode.SEALED.value)]


def _listen(section: Section, name: str) -> Address:
    host, port = section.address(name)
    if host and not _ip(host) and host != "localhost":
        raise section.error(name, f"{host!r} is no address of this host", "write an IP address, or :port for all")
    return host, port


def _loopback(section: Section) -> Address:
    host, port = _listen(section, "listen")
    if not is_loopback(host):
        problem = f"{host or 'every address'} is not loopback: whoever reaches it would go out under this sidecar's ticket"
        raise section.error("listen", problem, "listen on 127.0.0.1, another 127. address, or [::1]")
    return host, port


def _target(section: Section, name: str) -> Address:
    host, port = section.address(name)
    if not host or not port:
        raise section.error(name, f"no {'host' if not host else 'port'} to connect to", "write it as host:port")
    return host, port


def is_loopback(host: str) -> bool:
    address = _ip(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _key_file(section: Section, name: str) -> KeyFile:
    return key_files.read(section, name, section.path(name))
