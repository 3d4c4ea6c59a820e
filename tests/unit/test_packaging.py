"""What is tested is what is shipped: the installed wheel, whole, and each extra enough for its process; the locks fit."""

from __future__ import annotations

import base64
import hashlib
import importlib
import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import cubeauth

ROOT = Path(__file__).resolve().parents[2]
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
WHEEL = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
FOLDERS = [ROOT / folder for folder in WHEEL["packages"]]
PACKAGES = [folder.name for folder in FOLDERS]
EXTRAS = sorted(PROJECT["project"]["optional-dependencies"])

NEEDS = {
    "": ["cubeauth", "cubeauth_resources"],
    "authnode": ["cubeauth_runtime", "cubeauth_authnode"],
    "sidecar": ["cubeauth_runtime", "cubeauth_client", "cubeauth_sidecar"],
    "cli": ["cubeauth_client", "cubeauth_resources", "cubeauth_cli"],
    "all": PACKAGES,
}
"""Which packages whoever installs `cubeauth[EXTRA]` must be able to import, to the last module."""


def installed() -> dict[str, importlib.metadata.PackagePath]:
    files = importlib.metadata.files("cubeauth")
    assert files is not None
    return {str(path): path for path in files}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_tests_run_on_the_installed_wheel(package: str) -> None:
    where = Path(str(importlib.import_module(package).__file__))
    assert where.is_relative_to(SITE_PACKAGES), (
        f"{package} comes from {where}: run the tests with `make unit`, without PYTHONPATH"
    )
    assert not (SITE_PACKAGES / "_editable_impl_cubeauth.pth").exists(), "installed editable: that is the source tree again"


def shipped() -> Iterator[tuple[str, bytes]]:
    """Each file that belongs in the wheel: its name there, its content here."""
    places = [(folder, folder.name) for folder in FOLDERS]
    places += [(ROOT / folder, name) for folder, name in WHEEL["force-include"].items()]
    for folder, name in places:
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{name}/{path.relative_to(folder)}", path.read_bytes()


def test_the_wheel_is_the_source_tree_as_it_is_now() -> None:
    tree = dict(shipped())
    wheel = {name: path for name, path in installed().items() if name.partition("/")[0] in PACKAGES and "__pycache__" not in name}
    assert sorted(wheel) == sorted(tree)
    stale = [name for name, path in wheel.items() if path.hash is None or path.hash.value != record_hash(tree[name])]
    assert stale == [], "the wheel is older than the source: `make unit` builds it again"


def record_hash(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def test_the_wheel_carries_nothing_but_the_packages() -> None:
    tops = {name.partition("/")[0] for name in installed()}
    assert tops - {".."} == {
        *PACKAGES,
        f"cubeauth-{cubeauth.__version__}.dist-info",
    }  # "..": what the installer put into bin


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_marked_as_typed(package: str) -> None:
    assert f"{package}/py.typed" in installed()


def test_the_wheel_says_what_it_is() -> None:
    metadata = importlib.metadata.metadata("cubeauth")
    assert metadata["Version"] == cubeauth.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_all("Provides-Extra") == EXTRAS


def test_the_wheel_carries_the_license() -> None:
    license_file = next(path for name, path in installed().items() if name.endswith(".dist-info/licenses/LICENSE"))
    assert license_file.read_text() == (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in license_file.read_text()


def test_the_program_is_installed_and_starts() -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="cubeauth")
    assert callable(entry.load())
    assert "cubeauth" in output_of(Path(sys.executable).parent / "cubeauth", "--help")


def output_of(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def closure(distribution: str, extra: str) -> set[str]:
    """The names of the distributions that `pip install DISTRIBUTION[EXTRA]` brings to this Python."""
    names: set[str] = set()
    waiting = [(distribution, extra)]
    while waiting:
        name, wanted = waiting.pop()
        for text in importlib.metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": wanted}):
                key = canonicalize_name(need.name)
                waiting += [(key, each) for each in need.extras or {""} if key not in names or each]
                names.add(key)
    return names - {distribution}


def outside(extra: str) -> Iterator[str]:
    """Top-level modules here that an installation with only this extra would not have."""
    inside = closure("cubeauth", extra) | {"cubeauth"}
    for module, distributions in importlib.metadata.packages_distributions().items():
        if not inside & {canonicalize_name(name) for name in distributions}:
            yield module


def test_every_extra_is_looked_at() -> None:
    assert sorted(NEEDS) == sorted(["", *EXTRAS])


@pytest.mark.parametrize("extra", NEEDS)
def test_an_extra_is_enough_for_what_it_is_for(extra: str) -> None:
    refused = sorted(outside(extra))
    assert "pytest" in refused
    assert output_of(sys.executable, ROOT / "tests/support/closed_import.py", ",".join(refused), *NEEDS[extra]) == ""


def locked(name: str) -> dict[str, Version]:
    """The pins of requirements/NAME.txt."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return {
        canonicalize_name(pin): Version(version)
        for pin, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;]+)", text, re.MULTILINE)
    }


def declared(groups: list[str], extras: list[str]) -> list[Requirement]:
    table = PROJECT["dependency-groups"]
    entries = [*PROJECT["project"]["dependencies"]] if extras else []
    entries += [text for extra in extras if extra != "all" for text in PROJECT["project"]["optional-dependencies"][extra]]
    entries += [text for group in groups for text in table[group] if isinstance(text, str)]
    return [Requirement(text) for text in entries]


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("run", declared([], EXTRAS)),
        ("dev", declared(["test", "lint", "build"], EXTRAS)),
        ("build", declared(["build"], [])),
    ],
)
def test_a_lock_holds_what_pyproject_declares(name: str, needs: list[Requirement]) -> None:
    pins = locked(name)
    unmet = [str(need) for need in needs if (pin := pins.get(canonicalize_name(need.name))) is None or pin not in need.specifier]
    assert unmet == [], "run `make lock`"


def test_the_build_requirements_are_those_of_the_build_system() -> None:
    assert PROJECT["build-system"]["requires"] == PROJECT["dependency-groups"]["build"]


def test_the_locks_agree() -> None:
    dev = locked("dev")
    assert {**dev, **locked("run"), **locked("build")} == dev


@pytest.mark.parametrize("name", ["run", "dev", "build"])
def test_every_pin_has_hashes(name: str) -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", (ROOT / "requirements" / f"{name}.txt").read_text(), flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked(name)), "a requirement that is not pinned with =="
    assert [entry.partition(" ")[0] for entry in entries if "--hash=sha256:" not in entry] == []
