"""How long a channel lives: renewal, its ticket's end, grace."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from tests.support import f3
from tests.support.f3 import BOTH, EXP, NOW, SERVICE_KEY, SESSION_KEY, Pair

from cubeauth import caps, renewal
from cubeauth.errors import (
    ChannelExpired,
    HandshakeRefused,
    LocalMisuse,
    Reason,
    RefusedByPeer,
    RenewalRefused,
)
from cubeauth.events import ChannelFailed, DataReceived, GraceStarted, HandshakeCompleted, Renewed
from cubeauth.frames import FrameType
from cubeauth.phases import Mode, Phase
from cubeauth.secret import SecretBytes


def test_a_renewal_moves_the_end_and_the_capabilities_and_keeps_keys_and_counters() -> None:
    pair = f3.open_pair()
    pair.c.send(b"before")
    pair.c.renew(f3.later(caps='{"API":["data:read:*"]}'))
    pair.c.send(b"after")
    pair.flush()
    wider = caps.parse('{"API":["data:read:*"]}').capabilities
    assert pair.server.events[1:] == [DataReceived(b"before"), Renewed(EXP + 3600, wider, "f" * 32), DataReceived(b"after")]
    assert pair.s.capabilities == wider
    for end in pair:
        assert end.channel.exp == end.channel.next_deadline() == EXP + 3600
        assert end.channel.tick(EXP + 3599.9) == []
        assert len(end.channel.tick(EXP + 3600)) == 1


def test_a_renewal_can_be_renewed_and_works_while_the_server_has_closed() -> None:
    pair = f3.open_pair()
    pair.s.close()
    pair.flush()
    assert pair.c.renewable
    pair.c.renew(f3.later(10))
    pair.c.renew(f3.later(20))
    pair.flush()
    assert [event.exp for event in pair.server.of(Renewed)] == [EXP + 10, EXP + 20]


def test_a_rotated_service_key_opens_renewals_of_channels_made_before() -> None:
    keys = [SERVICE_KEY]
    new = SecretBytes(f3.seed("rotated"))
    pair = f3.open_pair(acceptor_=f3.acceptor(service_keys=lambda: keys))
    keys[:] = [new, SERVICE_KEY]
    pair.c.renew(f3.later(key=new))
    pair.flush()
    assert pair.server.of(Renewed)


REFUSED_RENEWALS: dict[str, tuple[Any, Reason, int]] = {
    "expired": (f3.later(-3600 - 10), Reason.TICKET_EXPIRED, 43),
    "ends as the one that it renews": (f3.later(0), Reason.BAD_RENEWAL, 2),
    "ends earlier": (f3.later(-1), Reason.BAD_RENEWAL, 2),
    "of another client": (f3.later(client_id="client2"), Reason.OTHER_CLIENT, 2),
    "for another service": (f3.later(service_id="MetanodeService"), Reason.OTHER_SERVICE, 2),
    "under another key": (f3.later(key=SecretBytes(f3.seed("x"))), Reason.BAD_ENVELOPE, 2),
    "without the capability": (f3.later(caps="{}"), Reason.CAPABILITY_MISSING, 2),
}


def _refused(pair: Pair, reason: Reason, code: int) -> None:
    """The server refused a RENEW for this reason, and the client was told code and reason, sealed."""
    assert isinstance(pair.server.error, RenewalRefused)
    assert pair.server.reason is reason
    assert isinstance(pair.client.error, RefusedByPeer)
    assert (pair.client.error.peer_code, pair.client.error.detail) == (code, reason.value)
    assert str(pair.client.error) == f"the peer refused with code {code}: {reason.value}"
    assert pair.s.exp == EXP


@pytest.mark.parametrize("name", REFUSED_RENEWALS)
def test_a_renewal_is_judged_as_a_ticket_is_and_more(name: str) -> None:
    grant, reason, code = REFUSED_RENEWALS[name]
    pair = f3.open_pair()
    pair.server.feed(f3.sealed(pair.client, FrameType.RENEW, renewal.request(grant, pair.c._transcript)))
    pair.flush()
    _refused(pair, reason, code)


BAD_PROOFS: dict[str, tuple[Callable[[Pair], bytes], Reason]] = {
    "of another channel": (lambda pair: renewal.request(f3.later(), bytes(32)), Reason.BAD_RENEWAL),
    "by the old session key": (
        lambda pair: renewal.request(dataclasses.replace(f3.later(), session_key=SESSION_KEY), pair.c._transcript),
        Reason.BAD_RENEWAL,
    ),
    "for another ticket": (
        lambda pair: _edit(renewal.request(f3.later(), pair.c._transcript), ticket=f3.grant(f3.ticket_of(exp=EXP + 9)).ticket),
        Reason.BAD_RENEWAL,
    ),
    "empty": (lambda pair: _edit(renewal.request(f3.later(), pair.c._transcript), proof=""), Reason.BAD_RENEWAL),
    "half": (
        lambda pair: _edit(renewal.request(f3.later(), pair.c._transcript), proof="KMFhFAPiRWtYFmbD16cHWg=="),
        Reason.BAD_RENEWAL,
    ),
    "not base64": (lambda pair: _edit(renewal.request(f3.later(), pair.c._transcript), proof="%"), Reason.MALFORMED),
    "missing": (lambda pair: b'{"ticket":""}', Reason.MALFORMED),
    "with one member more": (lambda pair: _edit(renewal.request(f3.later(), pair.c._transcript), more=1), Reason.MALFORMED),
    "not JSON": (lambda pair: b"", Reason.MALFORMED),
}


def _edit(payload: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(payload), **changes}).encode()


@pytest.mark.parametrize("name", BAD_PROOFS)
def test_a_renewal_must_be_proven_on_this_very_channel(name: str) -> None:
    make, reason = BAD_PROOFS[name]
    pair = f3.open_pair()
    pair.server.feed(f3.sealed(pair.client, FrameType.RENEW, make(pair)))
    pair.flush()
    _refused(pair, reason, 2)


@pytest.mark.parametrize(
    "grant",
    [
        f3.later(0),
        f3.later(-1),
        dataclasses.replace(f3.later(), client_id="client2"),
        dataclasses.replace(f3.later(), service_id="MasterService"),
    ],
    ids=["same end", "earlier", "other client", "other service"],
)
def test_the_client_does_not_send_a_renewal_that_is_none(grant: Any) -> None:
    pair = f3.open_pair()
    with pytest.raises(LocalMisuse):
        pair.c.renew(grant)
    assert pair.client.take() == b""


def test_a_client_renews_only_while_its_direction_is_open() -> None:
    pair = f3.new_pair()
    assert not pair.c.renewable
    pair.flush()
    pair.c.close()
    with pytest.raises(LocalMisuse):
        pair.c.renew(f3.later())


def test_a_refusal_after_our_close_is_not_told_for_close_was_our_last_frame() -> None:
    pair = f3.open_pair()
    pair.s.close()
    pair.flush()
    pair.server.feed(f3.sealed(pair.client, FrameType.RENEW, b"{}"))
    assert isinstance(pair.server.error, RenewalRefused)
    assert pair.server.take() == b""


def test_a_channel_ends_at_its_tickets_end_and_the_peer_is_told_to_fetch_a_new_one() -> None:
    pair = f3.open_pair()
    assert pair.s.next_deadline() == EXP
    assert pair.s.tick(EXP - 0.001) == []
    (failed,) = pair.s.tick(EXP)
    assert isinstance(failed, ChannelFailed)
    assert isinstance(failed.error, ChannelExpired)
    pair.client.feed(pair.server.take())
    assert isinstance(pair.client.error, RefusedByPeer)
    assert pair.client.error.peer_code == 43


@pytest.mark.parametrize("side", BOTH)
def test_data_that_comes_after_the_end_is_not_delivered(side: str) -> None:
    pair = f3.open_pair()
    source, target = pair.ends(side)
    source.channel.send(b"late")
    target.feed(source.take(), EXP)
    assert target.received == b""
    assert isinstance(target.error, ChannelExpired)


@pytest.mark.parametrize("mode", Mode)
def test_a_ticket_that_ends_within_the_handshake_is_refused_as_any_other(mode: Mode) -> None:
    pair = f3.new_pair(mode, grant_=f3.grant(f3.ticket_of(exp=int(NOW) + 5)))
    pair.flush(NOW + 4)
    assert pair.server.of(HandshakeCompleted)
    late = f3.new_pair(mode, grant_=f3.grant(f3.ticket_of(exp=int(NOW) + 5)))
    late.server.feed(late.client.take(), NOW + 4)
    late.client.feed(late.server.take(), NOW + 4)
    late.flush(NOW + 5)
    for end in late:
        assert not end.of(HandshakeCompleted)
        assert isinstance(end.error, HandshakeRefused)
    assert late.server.reason is Reason.TICKET_EXPIRED
    assert (late.s.peer, late.s.capabilities, late.c.peer) == ("", caps.Capabilities(), "")


def test_a_grant_without_exp_leaves_the_end_to_the_server() -> None:
    pair = f3.open_pair(grant_=dataclasses.replace(f3.grant(), exp=0))
    assert pair.c.exp == math.inf
    assert pair.c.next_deadline() is None
    assert pair.c.tick(EXP * 2) == []
    pair.c.renew(dataclasses.replace(f3.later(), exp=0))
    pair.flush()
    assert pair.s.exp == EXP + 3600


class Authnode:
    """When our own last try at it went unanswered, if it did."""

    def __init__(self) -> None:
        self.unanswered: float | None = None

    def __call__(self) -> float | None:
        return self.unanswered


@pytest.mark.parametrize("side", BOTH)
def test_grace_holds_while_our_own_tries_at_the_authnode_go_unanswered(side: str) -> None:
    authnode = Authnode()
    pair = f3.open_pair(acceptor_=f3.acceptor(unanswered_try=authnode, grace=100.0), unanswered_try=authnode, grace=100.0)
    channel = pair.ends(side)[0].channel
    authnode.unanswered = EXP - 60.0
    assert channel.tick(EXP) == [GraceStarted(EXP)], "at most 60 s old: 60 s is still good"
    assert channel.in_grace
    deadline = channel.next_deadline()
    assert deadline is not None
    assert EXP < deadline < EXP + 0.001, "just after the try stops to count"
    authnode.unanswered = EXP + 10.0
    assert channel.tick(deadline) == [], "told once"
    assert channel.next_deadline() == pytest.approx(EXP + 70)
    assert channel.tick(EXP + 70) == []
    authnode.unanswered = EXP + 65.0
    assert channel.next_deadline() == EXP + 100, "and never longer than the setting"
    assert channel.tick(EXP + 99.9) == []
    (failed,) = channel.tick(EXP + 100)
    assert isinstance(failed, ChannelFailed)
    assert isinstance(failed.error, ChannelExpired)


@pytest.mark.parametrize("age", [60.001, 61, 3600])
def test_an_old_unanswered_try_gives_no_grace(age: float) -> None:
    pair = f3.open_pair(acceptor_=f3.acceptor(unanswered_try=lambda: EXP - age))
    assert len(pair.s.tick(EXP)) == 1
    assert pair.s.phase is Phase.FAILED


def test_an_answer_of_the_authnode_ends_grace() -> None:
    authnode = Authnode()
    authnode.unanswered = float(EXP)
    pair = f3.open_pair(acceptor_=f3.acceptor(unanswered_try=authnode))
    assert pair.s.tick(EXP + 1) == [GraceStarted(EXP)]
    authnode.unanswered = None
    assert pair.s.next_deadline() == EXP, "at once"
    assert isinstance(pair.s.tick(EXP + 2)[0], ChannelFailed)


def test_grace_of_zero_is_none_and_the_default_is_an_hour() -> None:
    none = f3.open_pair(acceptor_=f3.acceptor(unanswered_try=lambda: float(EXP), grace=0.0))
    assert isinstance(none.s.tick(EXP)[0], ChannelFailed)
    assert f3.acceptor().grace == 3600


def test_a_renewal_ends_grace_and_a_later_one_is_told_again() -> None:
    authnode = Authnode()
    authnode.unanswered = float(EXP)
    pair = f3.open_pair(acceptor_=f3.acceptor(unanswered_try=authnode))
    assert pair.s.tick(EXP + 1) == [GraceStarted(EXP)]
    pair.c.renew(f3.later())
    pair.flush(EXP + 2)
    assert not pair.s.in_grace
    authnode.unanswered = float(EXP + 3600)
    assert pair.s.tick(EXP + 3600) == [GraceStarted(EXP + 3600)]


def test_a_new_handshake_has_no_grace() -> None:
    pair = f3.new_pair(grant_=f3.grant(f3.ticket_of(exp=int(NOW) - 1)), acceptor_=f3.acceptor(unanswered_try=lambda: NOW))
    pair.flush()
    assert pair.server.reason is Reason.TICKET_EXPIRED
