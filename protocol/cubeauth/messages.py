"""What travels over HTTP: request types, routes, the form field, the reply (protocol-v1, sections 2 to 4 and 8)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from cubeauth import strictjson
from cubeauth.errors import CODE_SUCCESS, MalformedMessage, PeerError, ServerRefused

TICKET_PATH = "/client/getticket"
FORM_FIELD = "Token"
CONTENT_TYPE_FORM = "application/x-www-form-urlencoded"

MAX_TICKET_REQUEST = 16 * 1024
"""Bytes of a ticket request's body: it holds two ids and a verifier, some 300 bytes; the rest is room for extra members."""

MAX_ADMIN_REQUEST = 256 * 1024
"""Bytes of an admin request's body: a capability list of 32 KiB and a ticket that carries one, all in base64: 140 KiB."""

MAX_REPLY = 64 * 1024 * 1024
"""Bytes of a reply that a client will read: stock's envelope of 50 MiB in base64."""


class MsgType(IntEnum):
    """Request types; a reply's type is the request's plus one."""

    GET_TICKET = 0x110000
    ACCESS_VOLUME = 0x70000
    CREATE_KEY = 0x151000
    DELETE_KEY = 0x152000
    GET_KEY = 0x153000
    ADD_CAPS = 0x154000
    DELETE_CAPS = 0x155000
    GET_CAPS = 0x156000
    ADD_RAFT_NODE = 0x157000
    REMOVE_RAFT_NODE = 0x158000
    OS_ADD_CAPS = 0x161000
    OS_DELETE_CAPS = 0x162000
    OS_GET_CAPS = 0x163000
    CONNECT = 0x200000
    # Ours, for routes that a stock Authnode does not have (section 11 rule 13).
    STATE = 0x7C1000
    LIST_KEYS = 0x7C2000
    SET_CAPS = 0x7C3000


@dataclass(frozen=True, slots=True)
class AdminRoute:
    """One admin request. word: on cfs-authtool's command line; payload: the member of the request that holds its arguments."""

    word: str
    path: str
    type: MsgType
    capability: str
    payload: str


ADMIN_ROUTES = (
    AdminRoute("createkey", "/admin/createkey", MsgType.CREATE_KEY, "auth:createkey:access", "key_info"),
    AdminRoute("deletekey", "/admin/deletekey", MsgType.DELETE_KEY, "auth:deletekey:access", "key_info"),
    AdminRoute("getkey", "/admin/getkey", MsgType.GET_KEY, "auth:getkey:access", "key_info"),
    AdminRoute("addcaps", "/admin/addcaps", MsgType.ADD_CAPS, "auth:addcaps:access", "key_info"),
    AdminRoute("deletecaps", "/admin/deletecaps", MsgType.DELETE_CAPS, "auth:deletecaps:access", "key_info"),
    AdminRoute("getcaps", "/admin/getcaps", MsgType.GET_CAPS, "auth:getcaps:access", "key_info"),
    AdminRoute("addraftnode", "/admin/addraftnode", MsgType.ADD_RAFT_NODE, "auth:addnode:access", "node_info"),
    AdminRoute("removeraftnode", "/admin/removeraftnode", MsgType.REMOVE_RAFT_NODE, "auth:removenode:access", "node_info"),
    AdminRoute("osaddcaps", "/os/addcaps", MsgType.OS_ADD_CAPS, "auth:osaddcaps:access", "access_key_caps"),
    AdminRoute("osdeletecaps", "/os/deletecaps", MsgType.OS_DELETE_CAPS, "auth:osdeletecaps:access", "access_key_caps"),
    AdminRoute("osgetcaps", "/os/getcaps", MsgType.OS_GET_CAPS, "auth:osgetcaps:access", "access_key_caps"),
    AdminRoute("state", "/cubeauth/v1/state", MsgType.STATE, "auth:state:access", "page"),
    AdminRoute("listkeys", "/cubeauth/v1/keys", MsgType.LIST_KEYS, "auth:listkeys:access", "page"),
    AdminRoute("setcaps", "/cubeauth/v1/setcaps", MsgType.SET_CAPS, "auth:setcaps:access", "key_info"),
)
ROUTE_OF_PATH = {route.path: route for route in ADMIN_ROUTES}
ROUTE_OF_WORD = {route.word: route for route in ADMIN_ROUTES}
STOCK_WORDS = tuple(route.word for route in ADMIN_ROUTES if not route.path.startswith("/cubeauth/"))

# What stock asks for, by request type: a ticket for a service is free, the
# master's own types are here for the guard at the master.
_RESOURCES = {
    0x70000: "master:getvol",
    0x80100: "master:clusterfreeze",
    0x80200: "master:addraftnode",
    0x80300: "master:removeraftnode",
    0x80400: "master:setnodeinfo",
    0x80500: "master:sernoderdonly",
    0x80600: "master:autodecommission",
    0x90100: "master:createvol",
    0x90200: "master:deletevol",
    0x90300: "master:updatevol",
    0x90400: "master:volshrink",
    0x90500: "master:volexpand",
    0x90501: "master:voladdallowedStorageClass",
    0xA0100: "master:loadmetapartition",
    0xA0200: "master:decommissionmetapartition",
    0xA0300: "master:changemetapartitionleader",
    0xA0400: "master:createmetapartition",
    0xA0500: "master:addmetareplica",
    0xA0600: "master:deletemetareplica",
    0xA0700: "master:qosupdate",
    0xA0800: "master:qosupdatezonelimit",
    0xA0900: "master:qosupdatemasterlimit",
    0xA0A00: "master:qosupdateclientparam",
    0xB0100: "master:createdatapartition",
    0xB0200: "master:changedatapartitionleader",
    0xB0300: "master:loaddatapartition",
    0xB0400: "master:decommissiondatapartition",
    0xB0500: "master:adddatareplica",
    0xB0600: "master:removedatareplica",
    0xB0700: "master:setdprdonly",
    0xB0800: "master:reportLackDataPartitions",
    0xC0100: "master:addmetanode",
    0xC0200: "master:decommissionmetanode",
    0xC0300: "master:migratemetanode",
    0xC0400: "master:setmetanodethreshold",
    0xC0500: "master:updatemetanode",
    0xD0100: "master:adddatannode",
    0xD0200: "master:decommissiondatannode",
    0xD0300: "master:migratedatannode",
    0xD0400: "master:canceldecommissiondatannode",
    0xD0500: "master:decommissiondisk",
    0xD0600: "master:updatenodesetcapcity",
    0xD0700: "master:updatenodesetid",
    0xD0800: "master:updatedomaindatauseratio",
    0xD0900: "master:updatezoneexcluderatio",
    0xD0A00: "master:recommissiondisk",
    0xE0100: "master:usercreate",
    0xE0200: "master:userdelete",
    0xE0300: "master:userupdate",
    0xE0400: "master:userupdatepolicy",
    0xE0500: "master:userremotepolicy",
    0xE0600: "master:userdeletevolpolicy",
    0xE0700: "master:usertransfervol",
    0xF0100: "master:updatezone",
}
RESOURCE_OF_TYPE = _RESOURCES | {int(r.type): r.capability.rpartition(":")[0] for r in ADMIN_ROUTES}
"""`node:object` of the capability that each request type needs; the action is always `access`."""


def encode_form(request: str) -> bytes:
    """The body of a POST: `Token=` and the request's JSON in base64, percent-encoded."""
    return f"{FORM_FIELD}={quote(strictjson.b64encode(request.encode('utf-8')), safe='')}".encode("ascii")


def decode_form(form: bytes) -> dict[str, Any]:
    """The request's JSON object from a form body or query string with exactly one `Token`. Raises MalformedMessage."""
    if form.startswith(b"Token=") and b"&" not in form:
        value = form[6:]
    else:
        values = [pair[6:] for pair in form.split(b"&") if pair.startswith(b"Token=")]
        if len(values) != 1:
            raise MalformedMessage("no Token, or more than one")
        value = values[0]
    if b"%" in value:
        # The three letters of base64 that forms escape; whatever else is escaped takes the general way.
        value = value.replace(b"%3D", b"=").replace(b"%2F", b"/").replace(b"%2B", b"+")
        if b"%" in value:
            value = unquote_to_bytes(value)
    return strictjson.load_object(strictjson.b64decode(value))


def success(data: str) -> str:
    """A reply's body around an envelope; base64 needs no escaping."""
    return f'{{"code":0,"msg":"success","data":"{data}"}}'


def refusal(error: PeerError) -> str:
    """A reply's body for what the peer may know of `error`."""
    return strictjson.dumps({"code": error.code, "msg": error.wire_text, "data": None})


def parse_reply(body: bytes) -> str:
    """The data of a successful reply. Raises ServerRefused with the server's code and text, MalformedMessage."""
    members = strictjson.load_object(body)
    code = strictjson.int_member(members, "code")
    if code != CODE_SUCCESS:
        text = members.get("msg")
        raise ServerRefused(code, one_line(text) if isinstance(text, str) else "")
    return strictjson.text_member(members, "data")


def one_line(text: str) -> str:
    """A server's text made safe for our terminal and log: one line, printable, short."""
    return "".join(c if c.isprintable() else " " for c in text[:300]).strip()
