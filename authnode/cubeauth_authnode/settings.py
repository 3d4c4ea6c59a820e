"""What a worker is told of the configuration: everything it needs, and not the root key."""

from __future__ import annotations

import ipaddress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cubeauth import strictjson
from cubeauth.secret import SecretBytes
from cubeauth_authnode.config import AuthnodeConfig, Limits, Network, TlsFiles
from cubeauth_authnode.proof import Policy

REPLAY_FILE = "replay.cache"


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    service_key: SecretBytes = field(repr=False)
    policy: Policy
    limits: Limits
    trusted_proxies: tuple[Network, ...]
    tls: TlsFiles | None
    audit: Path | None
    replay: Path
    log_level: str


def of_config(config: AuthnodeConfig) -> WorkerSettings:
    return WorkerSettings(
        service_key=config.service_key,
        policy=Policy(config.lifetime, config.skew, config.require_bound),
        limits=config.limits,
        trusted_proxies=config.trusted_proxies,
        tls=config.tls,
        audit=config.audit,
        replay=config.store / REPLAY_FILE,
        log_level=config.log_level,
    )


def encode(settings: WorkerSettings) -> bytes:
    """For the link; it holds the AuthService key."""
    bound = settings.policy.require_bound
    return strictjson.dumps(
        {
            "service_key": strictjson.b64encode(settings.service_key.reveal()),
            "policy": [settings.policy.lifetime, settings.policy.skew, None if bound is None else sorted(bound)],
            "limits": asdict(settings.limits),
            "trusted_proxies": [str(network) for network in settings.trusted_proxies],
            "tls": [str(settings.tls.certificate), str(settings.tls.key)] if settings.tls else None,
            "audit": str(settings.audit) if settings.audit else None,
            "replay": str(settings.replay),
            "log_level": settings.log_level,
        }
    ).encode("utf-8")


def decode(payload: bytes) -> WorkerSettings:
    members = strictjson.load_object(payload)
    lifetime, skew, bound = members["policy"]
    return WorkerSettings(
        service_key=SecretBytes(strictjson.b64decode(members["service_key"])),
        policy=Policy(lifetime, skew, None if bound is None else frozenset(bound)),
        limits=Limits(**members["limits"]),
        trusted_proxies=tuple(ipaddress.ip_network(network) for network in members["trusted_proxies"]),
        tls=TlsFiles(Path(members["tls"][0]), Path(members["tls"][1])) if members["tls"] else None,
        audit=Path(members["audit"]) if members["audit"] else None,
        replay=Path(members["replay"]),
        log_level=members["log_level"],
    )
