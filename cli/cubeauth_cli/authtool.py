"""`cubeauth authtool`: the words, flags and files of cfs-authtool (protocol-v1, section 9), its errors in one line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cubeauth import entropy, exchange, ids, keys
from cubeauth.caps import Capabilities
from cubeauth.errors import InputError, shown
from cubeauth.exchange import TicketGrant
from cubeauth.keys import KeyFile
from cubeauth.secret import SecretBytes
from cubeauth_cli import authtool_requests, console, goflags
from cubeauth_cli.app import RawCommand
from cubeauth_cli.authtool_data import Data, parse_data
from cubeauth_cli.authtool_requests import ASK
from cubeauth_cli.endings import FAILED
from cubeauth_cli.goflags import Flag, Parsed
from cubeauth_client.admin import AdminClient
from cubeauth_client.tickets import GivenTicket, get_ticket
from cubeauth_runtime.clock import SystemClock
from cubeauth_runtime.files import read_text, write_atomically

_SERVER_FLAGS = (
    Flag("host", "localhost:8080", "the Authnode, or several with commas", "HOST:PORT"),
    Flag("https", False, "speak HTTPS"),
    Flag("certfile", "server.crt", "with -https: the CA, or the server's own certificate, to trust", "FILE"),
)
# Defaults, and -rootkey and -servicekey, from CubeFS's authtool/authtool.go.
_FLAGS = {
    "ticket": (
        *_SERVER_FLAGS,
        Flag("keyfile", "keyring.json", "whose ticket: the file that createkey wrote", "FILE"),
        Flag("output", "ticket.json", "where the ticket goes", "FILE"),
    ),
    "api": (
        *_SERVER_FLAGS,
        Flag("ticketfile", "ticket.json", "a ticket for AuthService", "FILE"),
        Flag("data", "data.json", "what the request is about", "FILE"),
        Flag("output", "keyring.json", "where the key of createkey goes", "FILE"),
    ),
    "authkey": (
        Flag("keylen", keys.KEY_BYTES, "bytes of a key: 16, 24 or 32", "N"),
        Flag("rootkey", "authroot.json", "where the root key goes", "FILE"),
        Flag("servicekey", "authservice.json", "where the key of AuthService goes", "FILE"),
    ),
}
_WORDS = {"ticket": "getticket SERVICE", "api": f"{ids.AUTH_SERVICE} REQUEST", "authkey": ""}
_ABOUT = {
    "ticket": "Get a ticket for SERVICE and write it to a file.",
    "api": f"Ask the Authnode on a ticket for {ids.AUTH_SERVICE}; results are printed, createkey's key goes to a file.\n"
    f"REQUEST: {' '.join(ASK)}",
    "authkey": "Make the two keys of a new Authnode and write them to files.",
}


def _run(arguments: list[str]) -> int:
    word, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if word.lstrip("-") in ("", "h", "help"):
        usage = "\n\n".join(_usage(each) for each in _FLAGS)
        (console.out if word else console.note_lines)(usage)
        return 0 if word else FAILED
    if word not in _FLAGS:
        raise InputError("", f"authtool has no word {shown(word)}", f"it has {', '.join(_FLAGS)}; see cubeauth authtool --help")
    try:
        parsed = goflags.parse(_FLAGS[word], rest)
    except goflags.HelpAsked:
        console.out(_usage(word))
        return 0
    _COMMANDS[word](parsed)
    return 0


def _usage(word: str) -> str:
    shape = " ".join(part for part in ("cubeauth authtool", word, "[FLAGS]", _WORDS[word]) if part)
    lines = [f"usage: {shape}", *(f"  {line}" for line in _ABOUT[word].split("\n"))]
    for flag in _FLAGS[word]:
        lines.append(f"  -{flag.name}={flag.metavar}" if flag.metavar else f"  -{flag.name}")
        default = f" (default {flag.default})" if flag.metavar else ""
        lines.append(f"      {flag.usage}{default}")
    return "\n".join(lines)


def _two_words(parsed: Parsed, word: str) -> tuple[str, str]:
    """What stands behind the flags. Stock ignores a flag that stands there; ours says so."""
    if len(parsed.words) != 2:
        late = next((w for w in parsed.words[2:] if w.startswith("-")), None)
        if late is not None:
            raise InputError(shown(late.partition("=")[0]), "stands behind the words", "write flags in front of them")
        raise InputError("", f"{len(parsed.words)} words where two belong", f"write {_WORDS[word]} behind the flags")
    return parsed.words[0], parsed.words[1]


def _ticket(parsed: Parsed) -> None:
    request, service = _two_words(parsed, "ticket")
    if request != "getticket":
        raise InputError("", f"ticket has no request {shown(request)}", "write getticket SERVICE")
    if not ids.valid_id(service):
        raise InputError("SERVICE", f"{shown(service)} is not an id", "for example AuthService or MasterService")
    source, target = Path(parsed.text("keyfile")), _target(parsed)
    try:
        key_file = keys.parse_key_file(read_text(source))
    except InputError as e:
        raise e.located(str(source)) from None
    grant = asyncio.run(_fetch(parsed, key_file, service))
    write_atomically(target, exchange.ticket_file(grant).encode("utf-8"))
    until = datetime.fromtimestamp(grant.exp, UTC).strftime("%Y-%m-%d %H:%M:%S")
    console.out(f"{target}: ticket of {grant.client_id} for {grant.service_id}, good until {until} UTC")


async def _fetch(parsed: Parsed, key_file: KeyFile, service: str) -> TicketGrant:
    authnode = authtool_requests.authnode(parsed, SystemClock())
    return await get_ticket(authnode, key_file.id, key_file.auth_key, service)


def _api(parsed: Parsed) -> None:
    service, word = _two_words(parsed, "api")
    if service != ids.AUTH_SERVICE:
        raise InputError("", f"api cannot ask {shown(service)}", f"write {ids.AUTH_SERVICE} {word}")
    if word not in ASK:
        raise InputError("", f"api has no request {shown(word)}", f"there are {', '.join(ASK)}")
    grant = _given_ticket(Path(parsed.text("ticketfile")), service)
    data = _data(Path(parsed.text("data")), word)
    target = _target(parsed)
    result = asyncio.run(_ask(parsed, grant, word, data))
    if word != "createkey":
        console.out(result)
        return
    try:
        write_atomically(target, result.encode("utf-8"))
    except InputError as e:
        raise InputError(
            e.field, e.problem, f"the key {data.id} is made all the same: getkey prints it", source=e.source
        ) from None
    console.out(f"{target}: key of {data.id}")


def _given_ticket(path: Path, service: str) -> TicketGrant:
    try:
        grant = exchange.parse_ticket_file(read_text(path))
    except InputError as e:
        raise e.located(str(path)) from None
    if grant.service_id != service:
        problem = f"a ticket for {shown(grant.service_id)}, and {service} is asked"
        raise InputError("service_id", problem, f"get one: cubeauth authtool ticket getticket {service}", source=str(path))
    return grant


def _data(path: Path, word: str) -> Data:
    try:
        data = parse_data(word, read_text(path))
    except InputError as e:
        raise e.located(str(path)) from None
    for name in data.ignored:
        console.warning(f"{path}: caps: {shown(name)} means nothing to CubeFS: it knows API, OwnerVOL and NoneOwnerVOL")
    return data


async def _ask(parsed: Parsed, grant: TicketGrant, word: str, data: Data) -> str:
    authnode = authtool_requests.authnode(parsed, SystemClock())
    return await ASK[word](AdminClient(authnode, GivenTicket(grant)), data)


def _target(parsed: Parsed) -> Path:
    """Where the result goes; looked at before anything is asked for, because a new key is told once."""
    path = Path(parsed.text("output"))
    if path.is_dir() or not path.parent.is_dir():
        raise InputError("-output", "is a folder" if path.is_dir() else "its folder does not exist", source=str(path))
    return path


def _authkey(parsed: Parsed) -> None:
    if parsed.words:
        raise InputError("", f"authkey takes no word, {shown(parsed.words[0])} was given", "write flags only")
    length = int(parsed.values["keylen"])
    if length not in keys.AES_KEY_LENGTHS:
        raise InputError("-keylen", f"{length} bytes", "a key has 16, 24 or 32")
    targets = [Path(parsed.text("rootkey")), Path(parsed.text("servicekey"))]
    for target in targets:
        # Stock writes over it. The root key opens everything an Authnode stores: gone, the whole store is.
        if target.exists():
            raise InputError("", "exists already", "an Authnode may run on it: move it away first", source=str(target))
    if targets[0].resolve() == targets[1].resolve():
        raise InputError("-servicekey", "the file of -rootkey", "name two files: two keys are made", source=str(targets[1]))
    for target in targets:
        write_atomically(target, _new_key(length).to_json().encode("utf-8"))
        console.out(f"{target}: key of {length} bytes")


def _new_key(length: int) -> KeyFile:
    """Members as stock's tool fills them; its capabilities, `{"*"}`, are no JSON."""
    return KeyFile(
        ids.AUTH_SERVICE,
        SecretBytes(entropy.system(length)),
        create_ts=int(SystemClock().now()),
        role=ids.AUTH_SERVICE,
        caps=Capabilities(api=("*:*:*",)).to_json(),
    )


_COMMANDS: dict[str, Callable[[Parsed], None]] = {"ticket": _ticket, "api": _api, "authkey": _authkey}

command = RawCommand("authtool", callback=_run)
