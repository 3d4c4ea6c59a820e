"""Key files that a configuration names."""

from __future__ import annotations

from pathlib import Path

from cubeauth import keys
from cubeauth.errors import InputError
from cubeauth.keys import KeyFile
from cubeauth_runtime import files
from cubeauth_runtime.documents import Section


def read(section: Section, name: str, path: Path) -> KeyFile:
    """The key file at `path`, which the setting `name` gave. Raises InputError naming the setting, the file and its member."""
    try:
        return keys.parse_key_file(files.read_text(path))
    except InputError as e:
        where = f"{path}: {e.field}: " if e.field else f"{path}: "
        raise section.error(name, f"{where}{e.problem}", e.remedy) from None
