"""A program: imports every module of the packages it is given, while the top-level modules in REFUSED cannot be imported.

    python closed_import.py REFUSED PACKAGE...        REFUSED: names with commas between
Run in a process of its own, because what a test process has imported already cannot be refused any more.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class Refusing(MetaPathFinder):
    """Stands before every other finder and says of each refused module that it is not there."""

    def __init__(self, refused: frozenset[str]) -> None:
        self.refused = refused

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self.refused:
            raise ModuleNotFoundError(f"No module named {fullname!r} (outside the extra)", name=fullname)
        return None


def import_all(package: str) -> None:
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, f"{package}."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)


if __name__ == "__main__":
    sys.meta_path.insert(0, Refusing(frozenset(sys.argv[1].split(","))))
    for name in sys.argv[2:]:
        import_all(name)
