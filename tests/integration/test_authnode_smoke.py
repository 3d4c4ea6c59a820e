"""The Authnode's processes, once through: a ticket for the administrator, a key, a ticket with it."""

from __future__ import annotations

from pathlib import Path

from tests.support.authnode import running_authnode


def test_a_key_is_made_and_gets_a_ticket(tmp_path: Path) -> None:
    with running_authnode(tmp_path) as authnode:
        admin = authnode.admin_grant()
        authnode.create(admin, "MasterService", "service", "*:*:*")
        client = authnode.create(admin, "ltptest", "client", "master:getvol:access")
        grant = authnode.ticket(client, "MasterService")
        assert (grant.client_id, grant.service_id) == ("ltptest", "MasterService")
        assert grant.exp == grant.c_time + 3600
        assert authnode.admin(admin, "state", {})["state"]["sequence"] == 2
        assert authnode.stop() == 0
