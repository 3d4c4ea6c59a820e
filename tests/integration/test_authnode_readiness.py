"""What /readyz promises is so."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from tests.support.authnode import Authnode, running_authnode
from tests.support.waiting import wait_for

from cubeauth_authnode.settings import REPLAY_FILE


def ready(authnode: Authnode) -> bool:
    try:
        with urllib.request.urlopen(f"http://{authnode.host}:{authnode.metrics_port}/readyz", timeout=20) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError:
        return False


def test_a_proof_made_when_a_start_without_its_replay_table_is_ready_is_taken(tmp_path: Path) -> None:
    with running_authnode(tmp_path, ticket={"skew": "2s"}) as authnode:
        authnode.create(authnode.admin_grant(), "MasterService", "service")
        authnode.stop()
        (tmp_path / "store" / REPLAY_FILE).unlink()
        authnode.start()
        assert not ready(authnode)
        wait_for("the Authnode to be ready", lambda: ready(authnode))
        assert authnode.admin_grant().client_id == "AuthService"
