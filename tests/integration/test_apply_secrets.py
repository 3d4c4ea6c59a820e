"""No key is in anything that apply, backup, restore and import print or journal: all is grepped for every key that was made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.support.applying import JOURNAL, Site, run
from tests.support.authnode import Authnode, prepare
from tests.support.resource_world import auth_key, capability

from cubeauth import keys
from cubeauth.keys import KeyFile, parse_key_file


def spellings(key: KeyFile) -> list[bytes]:
    """How a key may be written down."""
    raw = key.auth_key.reveal()
    text = keys.auth_id_key(key.id, raw)
    encoded = json.loads(key.to_json())["auth_key"].encode()
    return [
        raw,
        raw.hex().encode(),
        encoded,
        encoded.rstrip(b"="),
        text.encode(),
        *([key.secret_key.reveal()] if key.secret_key else []),
    ]


def test_no_key_is_printed_or_journalled(tmp_path: Path) -> None:
    authnode, said, made = prepare(tmp_path / "authnode"), list[str](), list[KeyFile]()
    authnode.start()
    site = Site(authnode, tmp_path / "site")

    def note(*argv: str | Path) -> None:
        ran = run(*argv)
        said.extend((ran.out, ran.err))
        made.extend(parse_key_file(path.read_text()) for path in site.keys.glob("*.json"))

    site.write("a.yaml", *[auth_key(f"key{n}") for n in range(4)], capability("c", "key0", api=["a:b:c"]))
    for more in (["--dry-run"], [], ["--json"], []):
        note(*site.argv(*more))
    (site.keys / "key0-authkey.json").write_text(site.key_file("key1").to_json())
    note(*site.argv())
    site.authnode.admin(authnode.admin_grant(), "deletekey", {"id": "key2"})
    note(*site.argv("--json"))
    site.write("a.yaml", auth_key("key1"), auth_key("key2"))
    note(*site.argv("--prune"))
    copy = tmp_path / "copy.db"
    note("authnode", "backup", "-c", authnode.config, "--to", copy)
    new = _imported(note, authnode, tmp_path)
    authnode.stop()
    note("authnode", "restore", "-c", authnode.config, "--from", copy, "--replace", "--json")
    note("authnode", "backup", "--check", copy, "-c", new.config)
    written = [*(text.encode() for text in said), (site.keys / JOURNAL).read_bytes(), copy.read_bytes(), authnode.log.encode()]
    assert len({key.auth_key.reveal() for key in made}) == 5, "four keys, and one of them made anew"
    service = authnode.service_key_file
    for secret in [spelling for key in (*made, service) for spelling in spellings(key)]:
        assert not [content for content in written if secret in content], "a secret is in an output"


def _imported(note: Callable[..., None], old: Authnode, folder: Path) -> Authnode:
    new = prepare(folder / "new")
    (folder / "ids.txt").write_text("key1\nkey2\nnosuch\n")
    note(
        "authnode",
        "import",
        "-c",
        new.config,
        "--from",
        old.endpoint,
        "--admin-key",
        old.folder / "service.json",
        "--ids",
        folder / "ids.txt",
    )
    return new
