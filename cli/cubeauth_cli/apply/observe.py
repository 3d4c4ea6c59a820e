"""What is there: keys at the Authnode, and how the key files compare with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from cubeauth.errors import InputError
from cubeauth.ids import Role, valid_role
from cubeauth.keys import KeyFile
from cubeauth_cli import console
from cubeauth_cli.administrator import Administrator, find_key
from cubeauth_cli.apply.folder import KeyFolder
from cubeauth_cli.in_flight import REQUESTS, run_all
from cubeauth_client.errors import NotSupported
from cubeauth_client.replies import KeyInfo
from cubeauth_resources.observed import KeyState, Observed

Pair = tuple[str, str]
"""An id and the name of its key file."""


@dataclass(slots=True)
class Seen:
    """stock: the Authnode has none of our routes. untold: why there is no state of an id."""

    observed: Observed
    stock: bool
    untold: dict[str, str]


@dataclass(slots=True)
class _Answers:
    """What came of asking; held: key files as they would be written, of the ids whose file is there."""

    keys: dict[str, KeyState] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    held: dict[str, KeyFile] = field(default_factory=dict)
    untold: dict[str, str] = field(default_factory=dict)

    def take(self, principal: str, info: KeyInfo | None) -> None:
        if info is None:
            self.keys.pop(principal, None)
            self.absent.add(principal)
            return
        try:
            self.keys[principal] = _state(info)
        except InputError as e:
            self.untold[principal] = str(e)


def _state(info: KeyInfo) -> KeyState:
    """Raises InputError for what a stock Authnode stored and ours would not."""
    if not valid_role(info.role):
        raise InputError("role", f"{info.role!r} is neither client nor service")
    return KeyState(Role(info.role), info.capabilities(), info.create_ts)


async def observe(admin: Administrator, folder: KeyFolder, pairs: Iterable[Pair]) -> Seen:
    """Look at every pair.

    Raises InputError naming the administrator's key file where that may not look, and the client's errors.
    """
    pairs = tuple(pairs)
    ids = {principal for principal, _ in pairs}
    with_file = {principal for principal, name in pairs if folder.has(name)}
    answers = _Answers()
    with admin.refusals_told():
        try:
            keystore = (await admin.client.state()).keystore_id
        except NotSupported:
            stock, keystore = True, ""
            await _ask_each(admin, ids, answers)
        else:
            stock = False
            await _list(admin, ids, answers)
            # The list tells no key; only where there is a file to compare it with is the key itself asked for.
            await _ask_each(admin, with_file & set(answers.keys), answers)
    files = {(principal, name): folder.judge(name, principal, answers.held.get(principal)) for principal, name in pairs}
    # Not `listed`, though ours gave its list: what it told of a key may be nothing that is understood here.
    observed = Observed(answers.keys, listed=False, absent=frozenset(answers.absent), files=files, keystore=keystore)
    return Seen(observed, stock, answers.untold)


async def _list(admin: Administrator, ids: set[str], answers: _Answers) -> None:
    answers.absent = set(ids)
    async for info in admin.client.list_keys():
        if info.id in ids:
            answers.absent.discard(info.id)
            answers.take(info.id, info)


async def _ask_each(admin: Administrator, ids: set[str], answers: _Answers) -> None:
    async def ask(principal: str) -> None:
        info = await find_key(admin.client, principal)
        answers.take(principal, info)
        if info is not None and info.auth_key is not None:
            answers.held[principal] = info.key_file()

    with console.progress("Looking at keys", len(ids)) as advance:
        await run_all([partial(ask, principal) for principal in sorted(ids)], limit=REQUESTS, on_done=lambda _: advance())
