"""What travels over HTTP: the form field, routes, replies and refusals."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest

from cubeauth import messages
from cubeauth.errors import AuthenticationFailed, CapabilityMissing, MalformedMessage, ServerRefused

# Its base64 holds +, / and =, so that each way of escaping shows.
REQUEST = '{"a":"\u07fe\u07ff\u0fff" }'
TOKEN = base64.b64encode(REQUEST.encode()).decode()


def test_the_token_is_one_that_escaping_touches() -> None:
    assert "+" in TOKEN
    assert "/" in TOKEN
    assert TOKEN.endswith("=")


@pytest.mark.parametrize(
    "form",
    [
        f"Token={TOKEN}",
        f"Token={quote(TOKEN, safe='')}",
        f"Token={quote_plus(TOKEN)}",
        "Token=" + "".join(f"%{ord(c):02x}" for c in TOKEN),
        f"a=b&Token={quote(TOKEN, safe='')}",
        f"Token={quote(TOKEN, safe='')}&a=b",
        f"&Token={quote(TOKEN, safe='')}&",
        f"token=x&Tokens=y&XToken=z&Token={TOKEN}",
    ],
)
def test_one_token_is_read_in_any_escaping_and_place(form: str) -> None:
    assert messages.decode_form(form.encode()) == json.loads(REQUEST)


@pytest.mark.parametrize(
    "form",
    [
        "",
        "&",
        "Token",
        "Token=",
        "token=" + TOKEN,
        " Token=" + TOKEN,
        "xToken=" + TOKEN,
        "a=Token=" + TOKEN,
        "%54oken=" + TOKEN,
        f"Token={TOKEN}&Token={TOKEN}",
        f"Token=&Token={TOKEN}",
        f"Token={TOKEN}&Token=",
        f"Token={TOKEN};Token={TOKEN}",
        f"Token={TOKEN} ",
        f"Token={TOKEN}\n",
        f"Token={TOKEN.replace('+', ' ').replace('/', ' ')}",
        f"Token={TOKEN.replace('+', '-').replace('/', '_')}",
        f"Token={TOKEN.rstrip('=')}",
        f"Token={TOKEN}%3D",
        f"Token={quote(quote(TOKEN, safe=''), safe='')}",
        f"Token={TOKEN.replace('=', '%253D')}",
        f"Token={TOKEN}%",
        f"Token={TOKEN}%zz",
        f"Token={TOKEN}%00",
        "Token=" + "A" * 1_000_000,
        "Token=" + "%" * 100_000,
        "&" * 100_000,
    ],
    ids=lambda form: ascii(form[:40]),
)
def test_no_token_or_two_or_another_text_of_it_is_malformed(form: str) -> None:
    with pytest.raises(MalformedMessage):
        messages.decode_form(form.encode())


@pytest.mark.parametrize("raw", [b"Token=\xff\xfe", b"\xff=\xfe", b"Token=%ff%fe", b"Token=" + base64.b64encode(b"\xff\xfe")])
def test_bytes_that_are_no_text_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        messages.decode_form(raw)


def test_form_both_ways() -> None:
    form = messages.encode_form(REQUEST)
    assert messages.decode_form(form) == json.loads(REQUEST)
    assert not set(form) & set(b"+/ &\n"), "escaped so that every form parser reads the same"


def test_reply_of_success_gives_its_data() -> None:
    assert messages.parse_reply(messages.success("YQ==").encode()) == "YQ=="
    assert json.loads(messages.success("YQ==")) == {"code": 0, "msg": "success", "data": "YQ=="}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"404 page not found\n",
        b"[]",
        b'{"code":0,"msg":"success"}',
        b'{"code":0,"msg":"success","data":null}',
        b'{"code":0,"msg":"success","data":{"a":1}}',
        b'{"code":"0","data":"YQ=="}',
        b'{"code":false,"data":"YQ=="}',
        b'{"code":0.0,"data":"YQ=="}',
        b'{"code":null,"data":"YQ=="}',
        b'{"code":' + b"9" * 400 + b',"msg":"x"}',
        b'{"code":1,"code":0,"data":"YQ=="}',
        b'{"data":"YQ=="}',
        b"\xff",
        b"[" * 100_000,
    ],
    ids=lambda body: ascii(body[:40]),
)
def test_what_is_no_reply_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        messages.parse_reply(body)


TEXTS = {
    '"plain"': "plain",
    '"  two\\r\\nlines\\tand more  "': "two  lines and more",
    '"\\u001b[31mred\\u001b[0m"': "[31mred [0m",
    '"right\\u202eto left\\u2028\\u0000"': "right to left",
    '"\\ud800"': "",
    '"gr\\u00fc\\u00df"': "grüß",
    "null": "",
    "7": "",
    '{"auth_key":"hunter2"}': "",
    "[" * 400 + "]" * 400: "",
}


@pytest.mark.parametrize(("sent", "shown"), TEXTS.items(), ids=[ascii(sent[:20]) for sent in TEXTS])
def test_text_of_a_refusal_is_one_printable_line(sent: str, shown: str) -> None:
    with pytest.raises(ServerRefused) as caught:
        messages.parse_reply(f'{{"code":35,"msg":{sent},"data":null}}'.encode())
    assert (caught.value.server_code, caught.value.detail) == (35, shown)
    assert str(caught.value) == f"refused with code 35: {shown}"
    assert str(caught.value).isprintable()


def test_text_of_a_refusal_is_short() -> None:
    with pytest.raises(ServerRefused) as caught:
        messages.parse_reply(b'{"code":2,"msg":"' + b"x" * 5_000_000 + b'"}')
    assert len(caught.value.detail) == 300


def test_refusal_says_what_the_peer_may_know() -> None:
    unknown = messages.refusal(AuthenticationFailed("no key of id 'admin'"))
    assert json.loads(unknown) == {"code": 2, "msg": "authentication failed", "data": None}
    told = messages.refusal(CapabilityMissing('needs "auth:getkey:access"\n'))
    assert json.loads(told) == {"code": 2, "msg": 'needs "auth:getkey:access"\n', "data": None}


def test_routes_words_paths_and_types_are_each_one_to_one() -> None:
    routes = messages.ADMIN_ROUTES
    assert len({r.path for r in routes}) == len({r.word for r in routes}) == len({r.type for r in routes}) == len(routes)
    assert messages.TICKET_PATH not in messages.ROUTE_OF_PATH
    assert all(int(r.type) + 1 not in {int(kind) for kind in messages.MsgType} for r in routes), "a reply's type is no request's"
    assert len(messages.STOCK_WORDS) == 11
