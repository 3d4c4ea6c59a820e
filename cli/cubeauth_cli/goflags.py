"""Command lines as Go's flag package reads them, which is what scripts around cfs-authtool are written for.

One dash or two mean the same; a value follows as `-name=value` or as the next
argument; a boolean takes a value with `=` only; the first argument that is no
flag, or `--`, ends them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cubeauth.errors import InputError, shown

Value = str | bool | int

# https://pkg.go.dev/strconv#ParseBool
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_INT = re.compile(r"-?[0-9]{1,18}")
_HELP = frozenset({"h", "help"})


class HelpAsked(Exception):
    """-h or -help, which Go's package answers by itself."""


@dataclass(frozen=True, slots=True)
class Flag:
    """default: whose type is the flag's; usage: a line for people."""

    name: str
    default: Value
    usage: str
    metavar: str = ""


@dataclass(frozen=True, slots=True)
class Parsed:
    """values: of every flag, given or not; given: names of those that were; words: what follows the flags."""

    values: dict[str, Value]
    given: frozenset[str]
    words: tuple[str, ...]

    def text(self, name: str) -> str:
        return str(self.values[name])

    def flag(self, name: str) -> bool:
        return self.values[name] is True


def parse(flags: Sequence[Flag], arguments: Sequence[str]) -> Parsed:
    """Raises InputError naming the flag, HelpAsked."""
    known = {flag.name: flag for flag in flags}
    values = {flag.name: flag.default for flag in flags}
    given: set[str] = set()
    left = list(arguments)
    while left and left[0].startswith("-") and left[0] != "-":
        argument = left.pop(0)
        if argument == "--":
            break
        name, equals, text = argument[2 if argument.startswith("--") else 1 :].partition("=")
        if name in _HELP and name not in known:
            raise HelpAsked
        flag = known.get(name)
        if flag is None:
            raise InputError(shown(argument.partition("=")[0]), "no such flag", f"there are {', '.join(f'-{f}' for f in known)}")
        values[name] = _value(flag, text if equals else None, left)
        given.add(name)
    return Parsed(values, frozenset(given), tuple(left))


def _value(flag: Flag, text: str | None, left: list[str]) -> Value:
    if isinstance(flag.default, bool):
        return True if text is None else _boolean(flag, text)
    if text is None:
        if not left:
            raise InputError(f"-{flag.name}", "needs a value", f"write -{flag.name}={flag.metavar}")
        text = left.pop(0)
    if isinstance(flag.default, int):
        if not _INT.fullmatch(text):
            raise InputError(f"-{flag.name}", f"{shown(text)} is not a whole number", f"write -{flag.name}={flag.metavar}")
        return int(text)
    return text


def _boolean(flag: Flag, text: str) -> bool:
    if text not in _TRUE and text not in _FALSE:
        raise InputError(
            f"-{flag.name}", f"{shown(text)} is neither true nor false", f"write -{flag.name}=true or -{flag.name}=false"
        )
    return text in _TRUE
