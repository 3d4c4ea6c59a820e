"""Secrets cannot be printed, pickled or copied into anything by accident, nor can the values that hold them."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support import ticketing

from cubeauth import caps, exchange, keys, ticket, verifier
from cubeauth.ids import Role
from cubeauth.messages import ROUTE_OF_WORD, MsgType
from cubeauth.secret import SecretBytes

SECRET = b"hunter2hunter2hunter2hunter2hunt"
FORMS = (SECRET.decode(), repr(SECRET)[2:-1], SECRET.hex(), "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnQ=", SECRET.hex(" "))

PRINTERS: tuple[Callable[[object], str], ...] = (
    repr,
    str,
    ascii,
    format,
    "{}".format,
    "{!r}".format,
    lambda x: f"{[x]}",
)


def _shows_nothing(value: object) -> None:
    for printer in PRINTERS:
        assert not [form for form in FORMS if form in printer(value)]


def test_no_form_of_printing_shows_a_secret() -> None:
    _shows_nothing(SecretBytes(SECRET))
    assert repr(SecretBytes(SECRET)) == "SecretBytes(<32 bytes>)"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(SecretBytes(SECRET), protocol)


@pytest.mark.parametrize("leak", [copy.copy, copy.deepcopy, json.dumps, vars, hash, bytes, iter], ids=lambda leak: leak.__name__)
def test_a_secret_is_not_copied_listed_hashed_or_turned_into_bytes(leak: Callable[[object], object]) -> None:
    with pytest.raises(TypeError) as caught:
        leak(SecretBytes(SECRET))
    assert not [form for form in FORMS if form in str(caught.value)]


def test_format_with_a_width_does_not_show_it_either() -> None:
    with pytest.raises(TypeError) as caught:
        format(SecretBytes(SECRET), ">80")
    assert SECRET.decode() not in str(caught.value)


@pytest.mark.parametrize("value", [32, True, None, "text", [1, 2]])
def test_only_bytes_make_a_secret(value: Any) -> None:
    with pytest.raises(TypeError):
        SecretBytes(value)


def test_what_is_secret_is_a_copy_and_compares_by_value() -> None:
    source: Any = bytearray(SECRET)
    secret = SecretBytes(source)
    source[0] = 0
    assert secret.reveal() == SECRET
    assert type(secret.reveal()) is bytes
    assert secret == SecretBytes(SECRET)
    assert secret != SecretBytes(SECRET[:-1])
    assert secret != SECRET
    assert len(secret) == 32


def _holders() -> Iterator[tuple[str, Any]]:
    secret, text = SecretBytes(SECRET), SECRET.decode()
    yield "KeyRecord", keys.KeyRecord("a", 1, Role.CLIENT, secret, "A" * 16, secret, 1, "{}")
    yield "KeyFile", keys.KeyFile("a", secret, "A" * 16, secret)
    yield "Ticket", ticket.Ticket("MasterService", secret, 1, 2, "", "{}")
    yield "TicketGrant", exchange.TicketGrant("a", "MasterService", text, secret, 1, 2)
    yield "Sent", exchange.Sent(SECRET, MsgType.GET_TICKET, "a", "MasterService", 1, secret)
    yield "TicketRequest", exchange.TicketRequest("a", "MasterService", SECRET, {"verifier": text})
    yield "AccessRequest", exchange.AccessRequest(1, "a", "AuthService", SECRET, text, {"k": text}, {"b": text}, {"c": text})


@pytest.mark.parametrize(("name", "holder"), list(_holders()))
def test_value_that_holds_a_secret_does_not_show_it(name: str, holder: Any) -> None:
    _shows_nothing(holder)
    assert type(holder).__name__ == name


@pytest.mark.parametrize(("name", "holder"), list(_holders()))
def test_value_that_holds_a_key_is_not_pickled(name: str, holder: Any) -> None:
    if any(isinstance(getattr(holder, field.name), SecretBytes) for field in dataclasses.fields(holder)):
        for leak in (pickle.dumps, copy.deepcopy, dataclasses.asdict):
            with pytest.raises(TypeError, match="not pickled"):
                leak(holder)
    else:
        assert name in ("TicketRequest", "AccessRequest"), "which hold what came over the wire, sealed"


def test_every_dataclass_with_a_secret_is_tried_here() -> None:
    tried = {name for name, _ in _holders()}
    for module in (caps, exchange, keys, ticket, verifier):
        for name, value in vars(module).items():
            if dataclasses.is_dataclass(value) and isinstance(value, type):
                hidden = [field.name for field in dataclasses.fields(value) if not field.repr]
                kinds = [field.name for field in dataclasses.fields(value) if "SecretBytes" in str(field.type)]
                assert set(kinds) <= set(hidden), f"{name} shows {set(kinds) - set(hidden)}"
                assert not hidden or name in tried, f"{name} hides {hidden} and is not tried"


def test_errors_about_an_exchange_do_not_repeat_its_secrets() -> None:
    grant = ticketing.a_grant(session_key=SecretBytes(SECRET))
    sent = exchange.ask_access(grant, MsgType.GET_KEY, {"key_info": {"id": "a"}}, now=ticketing.NOW + 5000, entropy=bytes)
    with pytest.raises(Exception, match="away") as caught:
        ticketing.prove_access_request(sent.body, ROUTE_OF_WORD["getkey"])
    assert not [form for form in (*FORMS, grant.ticket) if form in f"{caught.value!r} {caught.value}"]
