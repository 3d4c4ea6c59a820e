"""Processes seen from outside: who runs, who serves, what every worker refuses."""

from __future__ import annotations

from pathlib import Path

from tests.support.authnode import Authnode
from tests.support.waiting import wait_for
from tests.support.workers import connections_to_every_worker

FAILED = {"code": 2, "msg": "authentication failed", "data": None}
SAMPLE = 60


def exists(pid: int) -> bool:
    """Whether a process runs: one that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def are_gone(pids: list[int]) -> bool:
    return not any(map(exists, pids))


def has_replaced(authnode: Authnode, count: int) -> bool:
    """Whether `count` workers were replaced since the start, and all serve."""
    replaced = authnode.metric("cubeauth_authnode_worker_restarts")
    assert replaced <= count, "a worker ended that nobody killed"
    return replaced == count and authnode.metric("cubeauth_authnode_workers_ready") == 2


def has_connections(authnode: Authnode, count: int) -> bool:
    return authnode.metric("cubeauth_authnode_connections_open") == count


def serves(authnode: Authnode) -> None:
    assert authnode.admin_grant().client_id == "AuthService"


def wait_for_workers(authnode: Authnode, count: int = 2) -> list[int]:
    def serving() -> list[int] | None:
        pids = authnode.worker_pids()
        return pids if len(pids) == count and authnode.metric("cubeauth_authnode_workers_ready") == count else None

    return wait_for(f"{count} workers that serve", serving)


def assert_all_refused(authnode: Authnode, bodies: list[bytes]) -> None:
    """On every worker."""
    for kept in connections_to_every_worker(authnode).values():
        for body in bodies:
            assert kept.ask(body) == FAILED
        kept.close()


def recent(bodies: list[bytes], count: int = SAMPLE) -> list[bytes]:
    return bodies[-count:]
