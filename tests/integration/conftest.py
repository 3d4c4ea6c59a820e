"""One Authnode for all tests of a module that ask for it, with a service and a client; started when the first does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.authnode import Authnode, running_authnode

from cubeauth.exchange import TicketGrant
from cubeauth.keys import KeyFile


@pytest.fixture(scope="module")
def authnode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authnode]:
    with running_authnode(tmp_path_factory.mktemp("rules")) as it:
        yield it


@pytest.fixture(scope="module")
def admin(authnode: Authnode) -> TicketGrant:
    return authnode.admin_grant()


@pytest.fixture(scope="module")
def service(authnode: Authnode, admin: TicketGrant) -> KeyFile:
    return authnode.create(admin, "MasterService", "service")


@pytest.fixture(scope="module")
def client(authnode: Authnode, admin: TicketGrant, service: KeyFile) -> KeyFile:
    return authnode.create(admin, "ltptest", "client", "master:getvol:access")
