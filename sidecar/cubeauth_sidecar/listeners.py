"""Configured entries made ready: where to listen, where a connection goes, and which relay it gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cubeauth.admission import Acceptor
from cubeauth.entropy import Entropy
from cubeauth.lifetime import UnansweredTry
from cubeauth.phases import Mode
from cubeauth_sidecar.config import AcceptEntry, Address, ConnectEntry, SidecarConfig
from cubeauth_sidecar.events import Side
from cubeauth_sidecar.relay_accepting import AcceptingRelay
from cubeauth_sidecar.relay_connecting import ConnectingRelay
from cubeauth_sidecar.relay_tcp import Relay, Rules


@dataclass(frozen=True, slots=True)
class Listener:
    """came: the side that connects to us; from the network (PEER) it is under the limits for strangers, and audited.

    setting: where the configuration has it. make_relay: for a connection that came at the given time.
    """

    name: str
    setting: str
    address: Address
    target: Address
    came: Side
    service: str
    mode: Mode
    make_relay: Callable[[float], Relay]

    @property
    def strangers(self) -> bool:
        return self.came is Side.PEER


def accepting(entry: AcceptEntry, config: SidecarConfig, entropy: Entropy, unanswered_try: UnansweredTry) -> Listener:
    keys = (entry.service_key,)
    acceptor = Acceptor(
        service_id=entry.service,
        service_keys=lambda: keys,
        requirement=entry.capability,
        mode=entry.mode,
        grace=config.grace,
        unanswered_try=unanswered_try,
    )
    return Listener(
        entry.name,
        entry.setting,
        entry.listen,
        entry.forward,
        Side.PEER,
        entry.service,
        entry.mode,
        lambda now: AcceptingRelay(acceptor, entropy, now, idle=config.limits.idle),
    )


def connecting(entry: ConnectEntry, config: SidecarConfig, entropy: Entropy, unanswered_try: UnansweredTry) -> Listener:
    rules = Rules(entry.mode, config.grace, config.limits.idle)
    return Listener(
        entry.name,
        entry.setting,
        entry.listen,
        entry.peer,
        Side.DAEMON,
        entry.service,
        entry.mode,
        lambda now: ConnectingRelay(rules, entropy, now, unanswered_try=unanswered_try),
    )


def all_of(config: SidecarConfig, entropy: Entropy, unanswered_try: UnansweredTry) -> list[Listener]:
    """One for each entry, in the order of the configuration."""
    return [
        *(accepting(entry, config, entropy, unanswered_try) for entry in config.accept),
        *(connecting(entry, config, entropy, unanswered_try) for entry in config.connect),
    ]


def shown(address: Address) -> str:
    """As a person writes it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
