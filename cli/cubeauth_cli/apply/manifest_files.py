"""Manifests from files, folders and standard input, as parsed documents that know where they stood."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cubeauth import strictjson
from cubeauth.errors import InputError, MalformedMessage
from cubeauth_resources.manifests import Document, ManifestErrors
from cubeauth_runtime.documents import load_all_yaml
from cubeauth_runtime.files import MAX_FILE_BYTES, read_text

ENDINGS = (".yaml", ".yml", ".json")
STANDARD_INPUT = "-"


def read_documents(places: Sequence[str]) -> list[Document]:
    """All documents of all places. Raises ManifestErrors with one error for each file that cannot be read.

    Nothing at all is refused: applied with --prune it would take every key away.
    """
    documents: list[Document] = []
    errors: list[InputError] = []
    for source in _sources(places, errors):
        try:
            documents += _parse(source)
        except InputError as e:
            errors.append(e)
    if errors:
        raise ManifestErrors(errors)
    if all(document.content is None for document in documents):
        raise InputError(
            "-f", "no manifest in it", "nothing wanted is not taken for everything unwanted", source=" ".join(places)
        )
    return documents


def _sources(places: Sequence[str], errors: list[InputError]) -> Iterator[str]:
    """Each file once, in the order given; of a folder its manifests by name."""
    seen: set[str] = set()
    for place in places:
        for source in _files(place, errors):
            mark = source if source == STANDARD_INPUT else str(Path(source).resolve())
            if mark not in seen:
                seen.add(mark)
                yield source


def _files(place: str, errors: list[InputError]) -> list[str]:
    if place == STANDARD_INPUT or not Path(place).is_dir():
        return [place]
    try:
        entries = sorted(Path(place).iterdir())
    except OSError as e:
        errors.append(InputError("-f", f"cannot be read: {e.strerror}", source=place))
        return []
    found = [str(path) for path in entries if path.suffix in ENDINGS and path.is_file()]
    if not found:
        remedy = f"manifests end in {', '.join(ENDINGS)}; folders inside are not looked into"
        errors.append(InputError("-f", "a folder without manifests", remedy, source=place))
    return found


def _parse(source: str) -> list[Document]:
    if source.endswith(".json"):
        try:
            return [Document(strictjson.loads(read_text(Path(source))), source)]
        except MalformedMessage as e:
            raise InputError("", e.detail, "a file that ends in .json is one JSON object", source=source) from None
    if source == STANDARD_INPUT:
        text, name = _standard_input(), "standard input"
    else:
        text, name = read_text(Path(source)), source
    parsed = load_all_yaml(text, name)
    return [Document(content, name if len(parsed) == 1 else f"{name}:{line}") for content, line in parsed]


def _standard_input() -> str:
    content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise InputError("", f"larger than {MAX_FILE_BYTES} bytes", "apply it in parts", source="standard input")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError("", "not UTF-8 text", source="standard input") from None
