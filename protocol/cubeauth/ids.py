"""Names: principals, roles, services, access keys (protocol-v1, sections 3 and 5)."""

from __future__ import annotations

import re
from enum import StrEnum

AUTH_SERVICE = "AuthService"
"""The Authnode itself. Built in: its key comes from the configuration, it cannot be made, read or deleted."""

MASTER_SERVICE = "MasterService"
METANODE_SERVICE = "MetanodeService"
DATANODE_SERVICE = "DatanodeService"

SERVICE_ALIASES = {"MetaService": METANODE_SERVICE, "DataService": DATANODE_SERVICE}
"""Names of the user guide that stock servers refuse; ours takes them for the names the code has."""

STOCK_SERVICES = frozenset({AUTH_SERVICE, MASTER_SERVICE, METANODE_SERVICE, DATANODE_SERVICE})
"""What stock's own check of a service id accepts."""

_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,20}")
_ACCESS_KEY = re.compile(r"[A-Za-z0-9]{16}")

ID_RULE = "1 to 21 letters, digits or _, a letter first"
MAX_SHOWN_ID = 23
"""Characters of a bad id that an error may repeat: a key in base64, pasted in the wrong place, has 24 at least."""
ACCESS_KEY_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class Role(StrEnum):
    CLIENT = "client"
    SERVICE = "service"


def valid_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def valid_access_key(text: str) -> bool:
    return _ACCESS_KEY.fullmatch(text) is not None


def valid_role(text: str) -> bool:
    return text in (Role.CLIENT.value, Role.SERVICE.value)


def canonical_service(name: str) -> str:
    """The service id that `name` means: itself, or what an alias stands for."""
    return SERVICE_ALIASES.get(name, name)
