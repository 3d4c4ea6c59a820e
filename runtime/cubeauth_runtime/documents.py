"""Configuration files: JSON or YAML read strictly, then taken apart field by field.

A `Section` hands out typed values and remembers what was asked for, so that
`finish` can name what nobody knows: a misspelt setting is an error with the
near match as the remedy, never a default that someone believes is off.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cubeauth import strictjson
from cubeauth.errors import InputError, MalformedMessage, shown
from cubeauth_runtime import files

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_MAX_DIGITS = 64
_LABEL = r"[0-9A-Za-z_:%-]{1,63}"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*)?")
_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a mapping with the same key twice, and names the line of every value that is none."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError):  # what PyYAML's own parts let through
            kind = node.tag.rpartition(":")[2]
            problem = f"{shown(node.value)} is no {kind}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    members = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, f"{shown(key)} as a key, which is no text", key_node.start_mark)
        if key in members:
            raise yaml.constructor.ConstructorError(None, None, f"key {shown(key)} given twice", key_node.start_mark)
        members[key] = loader.construct_object(value_node, deep=True)
    return members


def _integer(loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    """Bounded: Python refuses to write thousands of digits, and nothing that is set here has so many."""
    if len(node.value) > _MAX_DIGITS:
        problem = f"a number of {len(node.value)} characters"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return loader.construct_yaml_int(node)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _integer)


def load_all_yaml(text: str, source: str) -> list[tuple[Any, int]]:
    """Every document of a YAML text with the line it starts on. Raises InputError with source and line."""
    try:
        loader = _StrictLoader(text)
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise _not_yaml(f"{chr(e.character)!r} cannot stand in it", source, line) from None
    found = []
    try:
        while loader.check_data():  # type: ignore[no-untyped-call]  # types-PyYAML leaves this one untyped
            line = loader.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]  # and this
            found.append((loader.get_data(), line))
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        raise _not_yaml(e.problem or e.context or "", source, mark.line + 1 if mark else loader.line + 1) from None
    except RecursionError:
        raise _not_yaml("nested too deeply", source, loader.line + 1) from None
    except (ValueError, OverflowError):
        raise _not_yaml("an escape that stands for no character", source, loader.line + 1) from None
    finally:
        loader.dispose()
    return found


def _not_yaml(problem: str, source: str, line: int) -> InputError:
    return InputError("", f"not YAML: {problem}", "correct that line", source=f"{source}:{line}")


def load(path: Path) -> dict[str, Any]:
    """One mapping from a JSON (by its first letter) or YAML file. Raises InputError naming the file."""
    text = files.read_text(path)
    if text.lstrip().startswith("{"):
        try:
            return strictjson.load_object(text)
        except MalformedMessage as e:
            raise InputError("", e.detail, "the file starts with { and must be one JSON object", source=str(path)) from None
    documents = load_all_yaml(text, str(path))
    if len(documents) != 1 or not isinstance(documents[0][0], dict):
        raise InputError("", "not one YAML mapping", "write `name: value` lines", source=str(path))
    return documents[0][0]


def near(name: str, known: Iterable[str]) -> str:
    """A remedy: the known name that was probably meant, or all of them."""
    names = sorted(known)
    match = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {match[0]}?" if match else f"known here: {', '.join(names)}"


class Section:
    """A mapping of settings; every getter raises InputError with the dotted path, and `source`, of what is wrong."""

    def __init__(self, members: Mapping[str, Any], source: str, path: str = "") -> None:
        self._members = members
        self.source = source
        self._path = path
        self._known: set[str] = set()

    def error(self, name: str, problem: str, remedy: str = "") -> InputError:
        return InputError(f"{self._path}{name}", problem, remedy, source=self.source)

    def _take(self, name: str) -> Any:
        self._known.add(name)
        return self._members.get(name)

    def raw(self, name: str) -> Any:
        """The value as it stands, for what no getter fits."""
        return self._take(name)

    def has(self, name: str) -> bool:
        return self._take(name) is not None

    def text(self, name: str, default: str | None = None, *, remedy: str = "put it in quotes") -> str:
        value = self._take(name)
        if value is None and default is not None:
            return default
        if value is None:
            raise self.error(name, "missing", f"set {self._path}{name}")
        if not isinstance(value, str):
            raise self.error(name, f"{shown(value)} is not a text", remedy)
        if not value:
            raise self.error(name, "empty", f"give {self._path}{name} a value")
        return value

    def secret(self, name: str) -> str:
        """A text whose value no error may show."""
        value = self._take(name)
        if value is not None and not isinstance(value, str):
            raise self.error(name, "not a text", "put it in quotes")
        return self.text(name)

    def choice(self, name: str, choices: Iterable[str], default: str | None = None) -> str:
        value = self.text(name, default)
        allowed = list(choices)
        if value not in allowed:
            raise self.error(name, f"{shown(value)} is none of {', '.join(allowed)}", "write one of them")
        return value

    def integer(self, name: str, default: int | None = None, *, low: int, high: int) -> int:
        value = self._take(name)
        if value is None and default is not None:
            return default
        if value is None:
            raise self.error(name, "missing", f"set {self._path}{name}")
        if type(value) is not int or not low <= value <= high:
            raise self.error(name, f"{shown(value)} is not a whole number from {low} to {high}", "write one without quotes")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(name, f"{shown(value)} is neither true nor false", "write one of them, without quotes")
        return value

    def duration(self, name: str, default: float, *, low: float, high: float) -> float:
        """Seconds, from a text such as 500ms, 10s, 5m, 1h, 1d."""
        value = self._take(name)
        if value is None:
            return default
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise self.error(name, f"{shown(value)} is no duration", "write it as 500ms, 10s, 5m, 1h or 1d")
        seconds = int(match[1]) * _SECONDS[match[2]]
        if not low <= seconds <= high:
            raise self.error(name, f"{value} is outside {low:g}s to {high:g}s", "write one within")
        return seconds

    def path(self, name: str, default: Path | None = None) -> Path:
        if default is not None and not self.has(name):
            return default
        value = self.text(name, remedy="write a path, in quotes")
        if "\0" in value or not _encodes(value):
            raise self.error(name, f"{shown(value)} is no path: no file's name has such a character", "write it without")
        return Path(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; absent is empty."""
        value = self._take(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.error(name, f"{_what(value)} is not a list of texts", "write one a line, each with a dash and in quotes")
        return tuple(value)

    def address(self, name: str, default: str | None = None) -> tuple[str, int]:
        """host and port of a text such as 127.0.0.1:8080, [::1]:8080 or :8080 (all addresses)."""
        return parse_address(self.text(name, default, remedy="write it as host:port"), self, name)

    def networks(self, name: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        found = []
        for i, item in enumerate(self.texts(name)):
            try:
                found.append(ipaddress.ip_network(item))
            except ValueError:
                raise self.error(f"{name}[{i}]", f"{shown(item)} is no network", "write it as 10.0.0.0/8 or 10.1.2.3") from None
        return tuple(found)

    def section(self, name: str) -> Section:
        """A mapping inside this one; absent is empty."""
        value = self._take(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.error(name, f"{shown(value)} is not a mapping", "write name: value lines, indented")
        return Section(value, self.source, f"{self._path}{name}.")

    def sections(self, name: str) -> Iterator[Section]:
        """The mappings in a list; absent is empty."""
        value = self._take(name)
        if value is None:
            return
        if not isinstance(value, list):
            raise self.error(name, f"{shown(value)} is not a list", "begin every entry with a dash")
        for i, item in enumerate(value):
            if not isinstance(item, dict):
                raise self.error(f"{name}[{i}]", f"{shown(item)} is not a mapping", "write name: value lines after the dash")
            yield Section(item, self.source, f"{self._path}{name}[{i}].")

    def ignored(self, names: Iterable[str]) -> tuple[str, ...]:
        """Which of `names`, known and without meaning to us, are set."""
        self._known.update(names)
        return tuple(name for name in names if name in self._members)

    def finish(self) -> None:
        """Refuse what nobody asked for."""
        for name in self._members:
            if name not in self._known:
                raise self.error(str(name), "unknown setting", near(str(name), self._known))


def _what(value: object) -> str:
    return "a list with something else in it" if isinstance(value, list) else shown(value)


def _encodes(text: str) -> bool:
    """Half of a surrogate pair, which JSON and YAML can write, is no character and has no bytes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def parse_address(value: str, section: Section, name: str) -> tuple[str, int]:
    """host and port. Raises the section's error."""
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise section.error(name, f"{shown(value)} has no port from 0 to 65535", "write it as host:port")
    if not _HOST.fullmatch(host):
        raise section.error(name, f"{shown(value)} has no host name or address", "write it as host:port")
    return host, int(port)


def overlap(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two listeners would want the same port of one address; port 0 is whichever is free."""
    hosts = {_plain(one[0]), _plain(other[0])}
    return one[1] != 0 and one[1] == other[1] and (len(hosts) == 1 or not _EVERYWHERE.isdisjoint(hosts))


def _plain(host: str) -> str:
    """One spelling of an address."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return "127.0.0.1" if host == "localhost" else host
