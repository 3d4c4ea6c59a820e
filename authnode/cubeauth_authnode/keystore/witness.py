"""The witness: how far the store had come, kept in another place than the store.

A copy of the store put back is whole and authentic; only something outside it
can tell that it is old. The witness is written after each commit and before
the commit is acknowledged, so it is never ahead of what is durable: a crash
between the two leaves a store ahead of its witness, which is fine, and a store
behind it was put back.
"""

from __future__ import annotations

import glob
import hmac
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from cubeauth import strictjson
from cubeauth.errors import InputError, MalformedMessage
from cubeauth_authnode.keystore.base import KeystoreUnusable
from cubeauth_authnode.keystore.filesystem import prepare_folder
from cubeauth_authnode.keystore.sealing import Seals, Use
from cubeauth_runtime.files import read_bounded, write_atomically

MAX_WITNESS_BYTES = 4096

ACCEPT = "--accept-older-store"


@dataclass(frozen=True, slots=True)
class Witness:
    """create_ts_high: the highest create_ts that any key of the store ever had."""

    keystore_id: str
    sequence: int
    create_ts_high: int


class Finding(Enum):
    """What a store and its witness say of each other."""

    CURRENT = auto()
    OLDER = auto()
    LOST = auto()
    FOREIGN = auto()


def compare(seen: Witness | None, keystore_id: str, sequence: int) -> Finding:
    """Judge a store that is at `sequence`. A store without a write yet has nothing that a lost witness could hide."""
    if seen is None:
        return Finding.LOST if sequence else Finding.CURRENT
    if seen.keystore_id != keystore_id:
        return Finding.FOREIGN
    return Finding.OLDER if sequence < seen.sequence else Finding.CURRENT


class WitnessFile:
    """One file, in a folder of its own choice, written whole each time."""

    def __init__(self, path: Path, seals: Seals) -> None:
        self.path = path
        self._seals = seals

    def prepare(self) -> None:
        """Make the folder, and clear away what a killed write left. Raises KeystoreUnusable."""
        prepare_folder(self.path.parent)
        for leftover in self.path.parent.glob(f".{glob.escape(self.path.name)}.????????"):
            leftover.unlink(missing_ok=True)

    def read(self) -> Witness | None:
        """None where there is no file. Raises KeystoreUnusable for one that is not as it was written."""
        if not self.path.exists():
            return None
        try:
            members = strictjson.load_object(read_bounded(self.path, limit=MAX_WITNESS_BYTES))
            seen = Witness(
                strictjson.text_member(members, "keystore_id"),
                strictjson.int_member(members, "sequence"),
                strictjson.int_member(members, "create_ts_high"),
            )
            mac = strictjson.b64decode(strictjson.text_member(members, "mac"))
        except MalformedMessage as e:
            raise KeystoreUnusable(f"{self.path}: no witness of a keystore: {e}; {self._remedy()}") from None
        except InputError as e:
            raise KeystoreUnusable(str(e)) from None
        if not hmac.compare_digest(mac, self._mac(seen)):
            raise KeystoreUnusable(
                f"{self.path}: not as it was written, or of another root key than {self._seals.root_id}; {self._remedy()}"
            )
        return seen

    def write(self, witness: Witness) -> None:
        """Durable when it returns. Raises KeystoreUnusable."""
        members = {
            "keystore_id": witness.keystore_id,
            "sequence": witness.sequence,
            "create_ts_high": witness.create_ts_high,
            "mac": strictjson.b64encode(self._mac(witness)),
        }
        try:
            write_atomically(self.path, strictjson.dumps(members).encode("ascii"))
        except InputError as e:
            raise KeystoreUnusable(f"the witness {e}; make room, or look at the folder's owner and mode") from None

    def _mac(self, witness: Witness) -> bytes:
        return self._seals.mac(Use.WITNESS, witness.keystore_id, witness.sequence, witness.create_ts_high)

    def _remedy(self) -> str:
        return f"name the store's own witness file, or if that is lost move this one away and start once with {ACCEPT}"
