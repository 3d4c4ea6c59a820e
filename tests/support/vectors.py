"""The recorded vectors of tests/vectors/, decoded: what stock CubeFS answers, and what ours answers on purpose differently.

Used at two levels: by the tests of the protocol core, and by those that send the same requests to a running Authnode. Nothing in
here calls the code under test, so that an error in it cannot hide itself: `stock_open` is a second, lenient opener.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
TICKET_PATH = "/client/getticket"


def _load(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((VECTORS / name).read_bytes())
    return value


@cache
def functions() -> Mapping[str, Any]:
    """authnode-v1-functions.json: section name to its cases, a list, or a table from input to answer."""
    return _load("authnode-v1-functions.json")


def cases(section: str) -> list[dict[str, Any]]:
    """The cases of a section that is a list."""
    found: list[dict[str, Any]] = functions()[section]
    return found


def table(section: str) -> list[tuple[str, Any]]:
    """The cases of a section that is a table, as (input, stock's answer)."""
    return list(functions()[section].items())


@dataclass(frozen=True)
class StockEnvelope:
    """An envelope taken apart without a check. iv: 16 bytes; r: 8; checksum: 16."""

    iv: bytes
    r: bytes
    checksum: bytes
    plaintext: bytes


def stock_open(key: bytes, text: str) -> StockEnvelope:
    """What a well-formed envelope holds (protocol-v1, section 1); for good vectors only, it checks nothing."""
    raw = base64.b64decode(text, validate=True)
    decryptor = Cipher(AES(key), CBC(raw[:16])).decryptor()
    buf = decryptor.update(raw[16:]) + decryptor.finalize()
    return StockEnvelope(raw[:16], buf[:8], buf[8:24], buf[24 : -buf[-1]])


def stock_open_json(key: bytes, text: str) -> dict[str, Any]:
    """The JSON object in an envelope of a good vector."""
    members: dict[str, Any] = json.loads(stock_open(key, text).plaintext)
    return members


StockAnswer = Literal["granted", "refused", "dropped", "no route"]
Recorder = Literal["authtool", "hand_made"]
_Entry = tuple[dict[str, Any], Recorder, dict[str, Any]]


@dataclass(frozen=True)
class Exchange:
    """One recorded request and stock's reply.

    path: without query; form: the urlencoded body, of a GET its query; at: unix seconds of the request; status: HTTP, 0 where
    stock dropped the connection. client_key: of F1; session_key: of the ticket's; service_key: opens the ticket that F1 gave.
    """

    name: str
    recorded_by: Recorder
    method: str
    path: str
    form: bytes = field(repr=False)
    at: int
    status: int
    content_type: str | None
    response: bytes = field(repr=False)
    client_key: bytes | None = field(repr=False)
    session_key: bytes | None = field(repr=False)
    service_key: bytes | None = field(repr=False)

    @property
    def is_ticket_request(self) -> bool:
        return self.path == TICKET_PATH

    @property
    def key(self) -> bytes:
        """What the verifier and the reply are sealed with."""
        key = self.client_key or self.session_key
        assert key is not None, f"{self.name}: the vector names no key"
        return key

    @property
    def request(self) -> dict[str, Any]:
        """The request's JSON; for a request that has one."""
        members: dict[str, Any] = json.loads(base64.b64decode(parse_qs(self.form.decode("ascii"))["Token"][0], validate=True))
        return members

    @property
    def access(self) -> dict[str, Any]:
        """The part of the request with type, ids and verifier."""
        request = self.request
        access: dict[str, Any] = request.get("api_req", request)
        return access

    @property
    def reply(self) -> dict[str, Any]:
        """`{"code", "msg", "data"}`; for an exchange that stock granted or refused."""
        members: dict[str, Any] = json.loads(self.response)
        return members

    @property
    def stock_answer(self) -> StockAnswer:
        if self.status == 0:
            return "dropped"
        if self.status == 404:
            return "no route"
        return "granted" if self.reply["code"] == 0 else "refused"

    @property
    def granted(self) -> dict[str, Any]:
        """What the reply's envelope holds; for an exchange that stock granted."""
        return stock_open_json(self.key, self.reply["data"])


def _key(keys: Mapping[str, str], name: str) -> bytes | None:
    return base64.b64decode(keys[name], validate=True) if name in keys else None


def _exchange(name: str, recorded_by: Recorder, raw: Mapping[str, Any], keys: Mapping[str, str]) -> Exchange:
    method = raw.get("method", "POST")
    path, _, query = raw["path"].partition("?")
    return Exchange(
        name=name,
        recorded_by=recorded_by,
        method=method,
        path=path,
        form=(query if method == "GET" else raw["request_body"] or "").encode("ascii"),
        at=raw["at"],
        status=raw["status"],
        content_type=raw["content_type"],
        response=raw["response_body"].encode("utf-8"),
        client_key=_key(keys, "client"),
        session_key=_key(keys, "session"),
        service_key=_key(keys, "service"),
    )


@cache
def recording() -> Mapping[str, Any]:
    """authnode-v1-exchanges.json as it stands."""
    return _load("authnode-v1-exchanges.json")


@cache
def exchanges() -> Sequence[Exchange]:
    """Every exchange of authnode-v1-exchanges.json, in the order of recording: cfs-authtool's, then the hand-made ones."""
    raw = recording()
    authtool: list[_Entry] = [(entry, "authtool", one) for entry in raw["authtool"] for one in entry["exchanges"]]
    hand_made: list[_Entry] = [(entry, "hand_made", entry) for entry in raw["hand_made"]]
    return tuple(_exchange(entry["name"], by, one, entry.get("keys", {})) for entry, by, one in (*authtool, *hand_made))


def exchange(name: str) -> Exchange:
    """The one exchange of this name."""
    (found,) = [one for one in exchanges() if one.name == name]
    return found


def auth_service_key() -> bytes:
    """Key of AuthService in the recording: opens the tickets of its admin requests."""
    return base64.b64decode(recording()["server_keys"]["authServiceKey"], validate=True)


def auth_root_key() -> bytes:
    """What stock derived every key of the recording from."""
    return base64.b64decode(recording()["server_keys"]["authRootKey"], validate=True)


REFUSED_BY_OURS: Mapping[str, str] = {
    "verifier 1 h ahead": "rule 3: a verifier counts within the skew in both directions; stock looks at the past only",
    "replay, second": "rule 4: a verifier is good once",
    "type 0": "rule 8: path and type agree; stock takes any type at /client/getticket",
    "type of master ticket": "rule 8: path and type agree; stock takes any type at /client/getticket",
    "path and type differ": "rule 8: stock answers getcaps' path with the whole key when the type is getkey's",
    "client id is not the ticket holder": "rule 7: stock never compares the id in the request with a ticket's",
}
"""Requests that stock grants and ours refuses whatever keys it holds: exchange name to the rule (protocol-v1, section 11)."""

GRANTED_BY_OURS: Mapping[str, str] = {
    "ticket for a service that is not one": "MetaService is the user guide's name of MetanodeService; ours takes it for that",
}
"""Requests that stock refuses and ours grants: exchange name to the reason."""
