"""Reading a parsed document strictly: every member is known, of its type, and named by its dotted path when it is not.

What is refused with a near miss of something known says "did you mean".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from cubeauth.errors import InputError

SHOWN_LETTERS = 60
"""Of a wrong value, so that an error stays one line."""

Choice = TypeVar("Choice", bound=StrEnum)


def shown(value: object) -> str:
    """A wrong value as an error shows it."""
    text = repr(value)
    return text if len(text) <= SHOWN_LETTERS else text[: SHOWN_LETTERS - 3] + "..."


def did_you_mean(word: object, known: Iterable[str], otherwise: str) -> str:
    """`did you mean X` for a near miss or another case of a known word, else the remedy `otherwise`."""
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(str(word).casefold(), by_folded, n=1, cutoff=0.7)
    return f"did you mean {by_folded[near[0]]}?" if near else otherwise


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping at a path of the document, its members all known and named by strings. A null member counts as left out."""

    path: str
    members: Mapping[str, object]

    def at(self, name: str) -> str:
        """The dotted path of a member."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        return self.members.get(name) is not None

    def required(self, name: str, remedy: str) -> object:
        """The member. Raises InputError with `remedy` if it is left out."""
        if not self.has(name):
            raise InputError(self.at(name), "missing", remedy)
        return self.members[name]

    def text(self, name: str, remedy: str) -> str:
        """A string that must be there and not empty."""
        value = self.required(name, remedy)
        if not isinstance(value, str):
            raise InputError(self.at(name), f"{shown(value)} is not a string", f"write it in quotes; {remedy}")
        if not value:
            raise InputError(self.at(name), "empty", remedy)
        return value

    def flag(self, name: str) -> bool:
        """true or false that must be there."""
        value = self.required(name, "write true or false")
        if not isinstance(value, bool):
            raise InputError(self.at(name), f"{shown(value)} is not true or false")
        return value

    def number(self, name: str) -> int:
        """A whole number, 0 or more, that must be there."""
        value = self.required(name, "write a whole number")
        if type(value) is not int or value < 0:
            raise InputError(self.at(name), f"{shown(value)} is not a whole number of 0 or more")
        return value

    def choice(self, name: str, choices: type[Choice], default: Choice | None = None) -> Choice:
        """One of the words of an enumeration; without a default it must be there."""
        if default is not None and not self.has(name):
            return default
        words = [word.value for word in choices]
        remedy = f"write {' or '.join(words)}"
        value = self.required(name, remedy)
        if value not in words:
            raise InputError(self.at(name), f"{shown(value)} is not known", did_you_mean(value, words, remedy))
        return choices(value)

    def section(self, name: str, known: tuple[str, ...], remedy: str) -> Section:
        """A mapping that must be there."""
        return section(self.required(name, remedy), self.at(name), known)

    def items(self, name: str) -> list[object]:
        """A list, empty if left out."""
        value = self.members[name] if self.has(name) else []
        if not isinstance(value, list):
            raise InputError(self.at(name), f"{shown(value)} is not a list", "write a list, one item a line, each with a dash")
        return value


def section(value: object, path: str, known: tuple[str, ...]) -> Section:
    """`value` as a mapping with members out of `known`. Raises InputError naming the first that is not."""
    if not isinstance(value, Mapping):
        raise InputError(path, f"{shown(value)} is not a mapping", f"it takes {', '.join(known)}")
    for name in value:
        if name not in known:
            raise InputError(
                Section(path, value).at(shown(name).strip("'")),
                "unknown field",
                did_you_mean(name, known, f"known are {', '.join(known)}"),
            )
    return Section(path, value)


def text_pairs(value: object, path: str) -> dict[str, str]:
    """A mapping of strings to strings with any names, as labels are. Raises InputError."""
    if not isinstance(value, Mapping):
        raise InputError(path, f"{shown(value)} is not a mapping", "write name: value lines")
    for name, word in value.items():
        if not isinstance(name, str):
            raise InputError(path, f"the name {shown(name)} is not a string", "write it in quotes")
        if not isinstance(word, str):
            raise InputError(f"{path}.{name}", f"{shown(word)} is not a string", "write it in quotes")
    return dict(value)
