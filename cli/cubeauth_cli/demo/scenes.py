"""The steps of the demo. Each does one thing with real processes and checks how it ended; DemoFailed says how it did not."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass, field
from typing import Any

from cubeauth import exchange, messages
from cubeauth.errors import AUTHENTICATION_FAILED, Reason
from cubeauth.exchange import TicketGrant
from cubeauth.ids import MASTER_SERVICE
from cubeauth_cli.demo import attempts
from cubeauth_cli.demo.stage import CAPABILITY, SERVICE, DemoFailed, Stage
from cubeauth_cli.demo.tamper import Middleman
from cubeauth_client import tickets
from cubeauth_client.authnode import Exchange
from cubeauth_client.errors import AuthnodeRefused

SECRET_LINE = b"the quick brown fox jumps over the lazy dog"
ACCEPTING = "sidecar-service"

PLAYING = ("ltptest", "reader", "leaver", "datanode-service", "master-service")
"""The AuthKeys that the steps use."""


@dataclass
class Outcome:
    """What a step found. told: for people, a line each; wire: what a refused peer saw; audit: what the refusing side noted."""

    told: list[str]
    wire: str = ""
    audit: dict[str, Any] = field(default_factory=dict)


@dataclass
class Story:
    """What the scenes hand on to each other."""

    stage: Stage
    middleman: Middleman
    early_grant: TicketGrant | None = None

    async def ticket(self, key: str, service: str) -> TicketGrant:
        held = self.stage.key_file(key)
        return await tickets.get_ticket(self.stage.client(), held.id, held.auth_key, service)


def must(condition: bool, what: str) -> None:
    if not condition:
        raise DemoFailed(what)


async def apply(stage: Stage, *more: str) -> dict[str, Any]:
    """Run `cubeauth apply` as a person would, and read its report."""
    arguments = ["apply", "-f", str(stage.manifests), "--authnode", stage.endpoint, "--admin-key", str(stage.admin_key)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cubeauth_cli.main",
        *arguments,
        "--keys",
        str(stage.keys),
        "--json",
        *more,
        stdout=PIPE,
        stderr=PIPE,
        process_group=stage.group,
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    must(process.returncode == 0, f"cubeauth apply ended with {process.returncode}: {err.decode(errors='replace').strip()}")
    report: dict[str, Any] = json.loads(out)
    return report


# What works.


async def authnode_starts(story: Story) -> Outcome:
    await story.stage.start_authnode()
    return Outcome([f"an Authnode on {story.stage.endpoint}, SQLite in .../store"])


async def keys_are_made(story: Story) -> Outcome:
    stage = story.stage
    await apply(stage)
    missing = [name for name in PLAYING if not stage.key_path(name).exists()]
    must(not missing, f"no manifest in {stage.examples} has the AuthKey {', '.join(missing)}")
    must(
        stage.leaver.exists(),
        f"{stage.examples} has no {stage.leaver.name}, with the AuthKey leaver alone: its key is taken away",
    )
    made = sorted(path.name for path in stage.keys.glob("*.json"))
    return Outcome([f"cubeauth apply made {len(made)} keys, in .../keys:", *made])


async def nothing_twice(story: Story) -> Outcome:
    report = await apply(story.stage)
    must(not report["actions"], "a second apply found something to do")
    return Outcome(["a second apply finds nothing to do"])


async def ticket_is_fetched(story: Story) -> Outcome:
    grant = await story.ticket("ltptest", SERVICE)
    story.early_grant = grant
    return Outcome(
        [
            f"ltptest holds a ticket for {SERVICE}, good for {grant.exp - grant.c_time} s",
            "it cannot read what is in it; the service can",
        ]
    )


async def sidecars_start(story: Story) -> Outcome:
    stage = story.stage
    await stage.start_service()
    await stage.start_accepting()
    story.middleman = Middleman(stage.secured_port)
    await story.middleman.start()
    await stage.start_connecting(story.middleman.port)
    return Outcome(
        [
            f"a TCP service on 127.0.0.1:{stage.service_port} that knows nothing of tickets",
            f"its sidecar on 127.0.0.1:{stage.secured_port} asks for {CAPABILITY}",
            f"the client's sidecar on 127.0.0.1:{stage.client_port}",
        ]
    )


async def bytes_go_through(story: Story) -> Outcome:
    stage = story.stage
    answers = await attempts.lines_through(stage.client_port, b"hello")
    must(answers == [b"HELLO"], f"the service answered {answers!r}")
    answers = await attempts.lines_through(stage.tampered_port, SECRET_LINE)
    must(answers == [SECRET_LINE.upper()], f"the service answered {answers!r}")
    wire = bytes(story.middleman.seen)
    must(SECRET_LINE not in wire and SECRET_LINE.upper() not in wire, "a listener on the wire can read it")
    line = await stage.audit_line(ACCEPTING, "accepted")
    return Outcome(
        ["handshake done, the service said HELLO", f"a listener on the wire saw {len(wire)} bytes and none of the text"],
        audit=line,
    )


# What is refused. The wire says one thing to all; the refusing side's audit says why.


async def _refused_at_the_port(story: Story, grant: TicketGrant, reason: Reason) -> Outcome:
    since = len(story.stage.audit(ACCEPTING))
    wire = await attempts.handshake(story.stage.secured_port, grant)
    must(wire == AUTHENTICATION_FAILED, f"the wire said {wire!r}")
    return Outcome([], wire, await story.stage.refused_line(ACCEPTING, since, reason))


async def no_ticket(story: Story) -> Outcome:
    since = len(story.stage.audit(ACCEPTING))
    reply = await attempts.plain_bytes(story.stage.secured_port, b"hello, let me in\n")
    must(b"HELLO" not in reply, "the service answered who has no ticket")
    must(AUTHENTICATION_FAILED.encode() in reply, f"the wire said {reply!r}")
    return Outcome([], AUTHENTICATION_FAILED, await story.stage.refused_line(ACCEPTING, since, Reason.NO_TICKET))


async def ticket_for_another_service(story: Story) -> Outcome:
    return await _refused_at_the_port(story, await story.ticket("ltptest", MASTER_SERVICE), Reason.OTHER_SERVICE)


async def missing_capability(story: Story) -> Outcome:
    return await _refused_at_the_port(story, await story.ticket("reader", SERVICE), Reason.CAPABILITY_MISSING)


async def replayed_verifier(story: Story) -> Outcome:
    stage, held = story.stage, story.stage.key_file("ltptest")
    authnode = stage.client()
    sent = exchange.ask_ticket(held.id, held.auth_key, SERVICE, now=authnode.clock.now(), entropy=authnode.entropy)
    since = len(stage.audit("authnode"))
    again = Exchange(messages.TICKET_PATH, lambda _now: sent, exchange.accept_ticket)
    await authnode.call(again)
    return Outcome(
        [], await _refused_by_authnode(authnode.call(again)), await _authnode_says(stage, since, Reason.VERIFIER_REPLAYED)
    )


async def deleted_key(story: Story) -> Outcome:
    stage, held = story.stage, story.stage.key_file("leaver")
    stage.leaver.unlink()
    await apply(stage, "--prune")
    since = len(stage.audit("authnode"))
    wire = await _refused_by_authnode(tickets.get_ticket(stage.client(), held.id, held.auth_key, SERVICE))
    return Outcome(
        ["cubeauth apply --prune took the key of leaver away"], wire, await _authnode_says(stage, since, Reason.UNKNOWN_CLIENT)
    )


async def _refused_by_authnode(call: Any) -> str:
    try:
        await call
    except AuthnodeRefused as e:
        must(e.text == AUTHENTICATION_FAILED, f"the wire said {e.text!r}")
        return e.text
    raise DemoFailed("the Authnode gave a ticket where it must not")


async def _authnode_says(stage: Stage, since: int, reason: Reason) -> dict[str, Any]:
    return await stage.refused_line("authnode", since, reason)


async def flipped_bit(story: Story) -> Outcome:
    stage, middleman = story.stage, story.middleman
    since = len(stage.audit(ACCEPTING))
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.tampered_port)
    writer.write(b"first\n")
    must(await reader.readline() == b"FIRST\n", "the connection was not up before")
    middleman.flip = True
    writer.write(b"second\n")
    try:
        answer = await reader.read()
    except ConnectionResetError:
        answer = b""
    writer.close()
    must(not answer, f"the service answered a changed record: {answer!r}")
    return Outcome([], "connection reset", await stage.refused_line(ACCEPTING, since, Reason.BAD_RECORD))


async def expired_ticket(story: Story) -> Outcome:
    grant = story.early_grant
    assert grant is not None  # the scene that fetched it came before
    clock = story.stage.client().clock
    await asyncio.sleep(max(0.0, grant.exp - clock.now() + 0.1))
    return await _refused_at_the_port(story, grant, Reason.TICKET_EXPIRED)


async def still_works(story: Story) -> Outcome:
    """The sidecars' first tickets are over too; they have fetched new ones meanwhile."""
    answers = await attempts.lines_through(story.stage.client_port, b"still here")
    must(answers == [b"STILL HERE"], f"the service answered {answers!r}")
    return Outcome(["the first tickets are over; the sidecars fetched new ones in time"])
