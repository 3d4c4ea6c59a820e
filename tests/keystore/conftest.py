"""`backend`: each one in turn; `sqlite`: for what only a file can suffer."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.keystore.backends import BACKENDS, Backend, SqliteBackend


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
def sqlite(tmp_path: Path) -> SqliteBackend:
    return SqliteBackend(tmp_path)
