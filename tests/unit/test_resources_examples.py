"""The example manifests are right, say nothing that needs a notice, and tell the story that the demo shows."""

from __future__ import annotations

from pathlib import Path

import yaml
from tests.support.resource_world import World

from cubeauth.ids import Role
from cubeauth_resources.manifests import Desired, Document, WantedKey, collect

EXAMPLES = Path(__file__).parents[2] / "examples"
LISTENER_ASKS_FOR = "data:write:access"


def examples(*without: str) -> Desired:
    """The folder as it is, or without some of its files."""
    files = [path for path in sorted(EXAMPLES.glob("*.yaml")) if path.name not in without]
    return collect(Document(document, path.name) for path in files for document in yaml.safe_load_all(path.read_text()))


def by_id(wanted: Desired) -> dict[str, WantedKey]:
    return {key.key.id: key for key in wanted.keys}


def test_they_are_right_and_need_no_notice() -> None:
    wanted = examples()
    assert set(by_id(wanted)) == {"DatanodeService", "MasterService", "ltptest", "reader", "leaver"}
    assert wanted.notices == ()


def test_one_client_may_pass_the_listener_and_one_may_not() -> None:
    keys = by_id(examples())
    assert keys["DatanodeService"].key.role is Role.SERVICE
    assert keys["ltptest"].capabilities.allows(LISTENER_ASKS_FOR)
    assert keys["leaver"].capabilities.allows(LISTENER_ASKS_FOR)
    assert not keys["reader"].capabilities.allows(LISTENER_ASKS_FOR)
    assert keys["reader"].capabilities.allows("data:read:access")


def test_taking_the_leavers_file_out_and_pruning_deletes_that_key_only() -> None:
    world = World()
    world.run(examples())
    world.run(examples("40-leaver.yaml"), prune=True)
    assert set(world.keys) == {"DatanodeService", "MasterService", "ltptest", "reader"}
    assert "leaver-authkey.json" not in world.files
