"""Rules of CONTRIBUTING.md that no linter holds. Each names the place and the way out."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE_LINES = 400
FUNCTION_LINES = 60
CODE = ["protocol", "runtime", "client", "authnode", "resources", "sidecar", "cli", "tests", "bench", "examples"]
PROSE = ["docs", "requirements", ".ci"]

UNFINISHED = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X]|HAC[K])\b")  # the brackets keep this line from being a finding
REASONLESS = re.compile(r"#\s*(type:\s*ignore|(ruff:\s*)?noqa|pragma:\s*no\s)[^#\s]*(\s+[A-Z]+[0-9]+,?)*\s*$")


def files(folders: list[str], *endings: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in endings and "__pycache__" not in path.parts:
                yield path


def modules() -> list[Path]:
    return list(files(CODE, ".py"))


def texts() -> list[Path]:
    top = [path for path in sorted(ROOT.iterdir()) if path.suffix in {".md", ".toml"} or path.name == "Makefile"]
    return [*modules(), *files([*CODE, *PROSE], ".md", ".yaml", ".sh", ".toml", ".lua", ""), *top]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def places(paths: list[Path], finding: re.Pattern[str]) -> list[str]:
    return [
        f"{name(path)}:{number}"
        for path in paths
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if finding.search(line)
    ]


def test_the_rules_see_the_tree() -> None:
    seen = {path.relative_to(ROOT).parts[0] for path in modules()}
    assert {"protocol", "runtime", "client", "authnode", "resources", "tests"} <= seen


def test_a_module_holds_one_idea() -> None:
    long = {name(path): lines for path in modules() if (lines := len(text_of(path).splitlines())) > MODULE_LINES}
    assert long == {}, f"over {MODULE_LINES} lines: divide it"


def test_a_function_fits_a_screen() -> None:
    long = [
        f"{name(path)}:{node.lineno} {node.name}"
        for path in modules()
        for node in ast.walk(ast.parse(text_of(path), name(path)))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES
    ]
    assert long == [], f"over {FUNCTION_LINES} lines: divide it"


def test_nothing_is_left_for_later() -> None:
    assert places(texts(), UNFINISHED) == [], "finish it, or open an issue"


def test_every_ignore_says_why() -> None:
    assert places(modules(), REASONLESS) == [], (
        "write the reason behind it: `# noqa: S104 - REASON`, `# type: ignore[x]  # REASON`"
    )


@pytest.mark.parametrize(
    ("line", "reasonless"),
    [
        ("x  # noqa: S104", True),
        ("x  # noqa", True),
        ("x  # noqa: S104, T201", True),
        ("x  # type: ignore[attr-defined]", True),
        ("x  # type: ignore[attr-defined]  # noqa: S104", True),
        ("x  # pragma: no cover", True),
        ("x  # noqa: S104 - a name for nobody, not a bind", False),
        ("x  # type: ignore[no-untyped-call]  # types-PyYAML leaves this one untyped", False),
    ],
)
def test_an_ignore_with_its_reason_is_told_from_one_without(line: str, reasonless: bool) -> None:
    assert bool(REASONLESS.search(line)) == reasonless


def test_no_folder_of_ours_shadows_a_package() -> None:
    """`operator` is a module of the standard library, `client` and `tests` are anybody's: only packages have __init__.py."""
    tests = [path for path in files(["tests"], ".py") if path.name == "__init__.py"]
    assert [name(path) for path in [*tests, *ROOT.glob("*/__init__.py")]] == []


def test_every_vector_says_where_it_comes_from() -> None:
    vectors = ROOT / "tests/vectors"
    told = (vectors / "PROVENANCE.md").read_text()
    untold = [path.name for path in vectors.iterdir() if path.name != "PROVENANCE.md" and path.name not in told]
    assert untold == [], "add a row to tests/vectors/PROVENANCE.md"


def test_what_ci_calls_can_be_called() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_every_verb_that_contributing_names_is_there() -> None:
    named = set(re.findall(r"`make ([a-z]+)", (ROOT / "CONTRIBUTING.md").read_text()))
    rules = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named == rules - {"help"}
