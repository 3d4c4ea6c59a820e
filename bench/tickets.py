"""Tickets a second, beside nginx answering a fixed body of the same size: `make bench` or `python -m bench.tickets`.

Both are fed in turn by one wrk script (1 thread, 16 connections) on the same
processors. Every request has a verifier of its own, made beforehand within
the skew and good once; all rules and the audit are on; the Authnode holds
10,000 keys, and 256 clients ask. What the Authnode granted is counted against
what wrk got: a refused request would not go unseen.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.support import Row, median, need, report, resident_mib
from tests.support.authnode import Authnode, prepare
from tests.support.certs import Authority, ServerFiles
from tests.support.waiting import wait_for

from cubeauth import entropy, exchange, ids, messages, strictjson, verifier
from cubeauth.caps import Capabilities
from cubeauth.keys import KeyRecord
from cubeauth.secret import SecretBytes
from cubeauth_authnode import replay
from cubeauth_authnode.app import STORE_FILE, WITNESS_FILE
from cubeauth_authnode.keystore.base import Change, CreateKey
from cubeauth_authnode.keystore.sqlite import SqliteKeystore
from cubeauth_authnode.settings import REPLAY_FILE

KEYS = 10_000
CLIENTS = 256
SECONDS = 4
CONNECTIONS = 16
SERVICE = "MasterService"
REPLAY_ENTRIES = 1 << 21
NGINX_PORTS = (19080, 19443)
FIXED_PORT = 19081

WRK_SCRIPT = """
local requests, n = {}, 0
for line in io.lines(os.getenv("BODIES")) do
  n = n + 1
  requests[n] = "POST /client/getticket HTTP/1.1\\r\\nHost: bench\\r\\n" ..
    "Content-Type: application/x-www-form-urlencoded\\r\\nContent-Length: " .. #line .. "\\r\\n\\r\\n" .. line
end
local i = 0
local once = os.getenv("ONCE") == "1"
request = function()
  i = i + 1
  if i > n then
    if once then error("more requests were asked for than were made") end
    i = 1
  end
  return requests[i]
end
done = function(summary, latency)
  io.write(string.format('{"requests":%d,"us":%d,"p50":%d,"p99":%d,"errors":%d}\\n', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), summary.errors.status + summary.errors.read + summary.errors.timeout))
end
"""

NGINX = """
worker_processes {workers}; daemon off; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  ssl_certificate {files.certificate}; ssl_certificate_key {files.key};
  server {{
    listen 127.0.0.1:{plain} reuseport; listen 127.0.0.1:{tls} reuseport ssl;
    location / {{ default_type application/json; return 200 '{body}'; }}
  }}
}}
"""


@dataclass(frozen=True)
class Client:
    id: str
    key: SecretBytes


@dataclass(frozen=True)
class Measured:
    rate: float
    p50: float
    p99: float
    requests: int


def fill(authnode: Authnode) -> list[Client]:
    """10,000 keys straight into the store, before the Authnode owns it."""
    root = SecretBytes(strictjson.b64decode(json.loads((authnode.folder / "root.json").read_text())["auth_key"]))
    store = SqliteKeystore.open(
        authnode.folder / "store" / STORE_FILE,
        root_key=root,
        witness=authnode.folder / "witness" / WITNESS_FILE,
        now=int(time.time()),
    )
    caps = Capabilities(api=("master:getvol:access", "data:write:access"), owner_vol=("master:ltptest:*",))
    writes = [CreateKey(SERVICE, ids.Role.SERVICE, caps)]
    writes += [CreateKey(f"client{i}", ids.Role.CLIENT, caps) for i in range(KEYS - 1)]
    made: list[KeyRecord] = []
    for start in range(0, len(writes), 1000):
        outcomes = store.apply(writes[start : start + 1000], now=int(time.time()))
        made += [outcome.record for outcome in outcomes if isinstance(outcome, Change)]
    store.close()
    assert len(made) == KEYS
    # No proof of these keys exists yet: without a table the Authnode would refuse all of its first seconds.
    replay.prepare(authnode.folder / "store" / REPLAY_FILE, entries=REPLAY_ENTRIES, skew=verifier.SKEW, now=0, new_store=True)
    return [Client(record.id, record.auth_key) for record in made[1 : CLIENTS + 1]]


def _write_bodies(job: tuple[list[tuple[str, bytes]], int, int, bool, str]) -> None:
    clients, count, at, bound, path = job
    with Path(path).open("wb") as f:
        for i in range(count):
            name, key = clients[i % len(clients)]
            if bound:
                body = exchange.ask_ticket(name, SecretBytes(key), SERVICE, now=at, entropy=entropy.system).body
            else:
                members = {
                    "type": int(messages.MsgType.GET_TICKET),
                    "client_id": name,
                    "service_id": SERVICE,
                    "verifier": verifier.seal(key, at, entropy.system),
                }
                body = messages.encode_form(strictjson.dumps(members))
            f.write(body + b"\n")


def make_bodies(folder: Path, clients: list[Client], count: int, *, bound: bool) -> Path:
    """`count` requests, each with a verifier of its own, which are good for long enough to be sent once this returns."""
    plain = [(client.id, client.key.reveal()) for client in clients]
    parts = [folder / "bodies.0", folder / "bodies.1"]
    bodies = folder / "bodies"
    estimate = count * 15e-6
    while True:
        at = int(time.time() + estimate) + verifier.SKEW - 1
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            pool.map(_write_bodies, [(plain, count // 2, at, bound, str(part)) for part in parts])
        bodies.write_bytes(b"".join(part.read_bytes() for part in parts))
        if time.time() + SECONDS + 2 < at + verifier.SKEW:
            break
        estimate *= 2  # the machine is busy: they had grown old before they were all made
    while time.time() <= at - verifier.SKEW + 1:
        time.sleep(0.05)
    return bodies


def wrk(folder: Path, url: str, bodies: Path, *, once: bool) -> Measured:
    """One run against `url`. once: a body must not be sent twice; a server that looks at none may have them again."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(folder / "wrk.lua"), url]
    done = subprocess.run(
        command, env=os.environ | {"BODIES": str(bodies), "ONCE": str(int(once))}, capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        sys.exit(f"bench: wrk failed: {done.stdout[-500:]} {done.stderr[-500:]}")
    result = json.loads(lines[-1])
    if result["errors"]:
        sys.exit(f"bench: {result['errors']} errors from {url}")
    return Measured(result["requests"] / (result["us"] / 1e6), result["p50"] / 1e3, result["p99"] / 1e3, result["requests"])


@contextmanager
def nginx(folder: Path, files: ServerFiles, body_bytes: int, workers: int) -> Iterator[None]:
    """nginx with as many processes as the Authnode has workers, answering `body_bytes` bytes to everything."""
    config = folder / "nginx.conf"
    plain, tls = NGINX_PORTS
    config.write_text(NGINX.format(folder=folder, files=files, workers=workers, plain=plain, tls=tls, body="x" * body_bytes))
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_for("nginx", (folder / "nginx.pid").exists)
        yield
    finally:
        process.terminate()
        process.wait()


def measure(folder: Path, clients: list[Client], peers: tuple[str, str], authnode: Authnode, rounds: int, *, bound: bool) -> Row:
    """In turn, `rounds` times: ours, nginx."""
    count = 60_000 * SECONDS
    ours, theirs = [], []
    for _ in range(rounds):
        bodies = make_bodies(folder, clients, count, bound=bound)
        before = authnode.metric("cubeauth_authnode_tickets_granted_total")
        ours.append(wrk(folder, peers[0], bodies, once=True))
        granted = authnode.metric("cubeauth_authnode_tickets_granted_total") - before
        if not ours[-1].requests <= granted <= ours[-1].requests + CONNECTIONS:
            sys.exit(f"bench: wrk got {ours[-1].requests} replies, but {granted:.0f} tickets were granted")
        theirs.append(wrk(folder, peers[1], bodies, once=False))
    kind = "HTTPS" if peers[0].startswith("https") else "HTTP"
    return row(f"{kind}, tickets" + (", bound verifiers" if bound else ""), ours, theirs)


@contextmanager
def fixed_body(body_bytes: int, processes: int) -> Iterator[None]:
    """As many processes of the least Python server as the Authnode has workers."""
    command = [sys.executable, "-m", "bench.peers.fixed_body", str(FIXED_PORT), str(body_bytes)]
    started = [subprocess.Popen(command) for _ in range(processes)]
    try:
        wait_for("the fixed-body server", lambda: _listeners(FIXED_PORT) >= processes)
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def _listeners(port: int) -> int:
    """Sockets that listen on a loopback port (proc(5): state 0A)."""
    wanted = f"0100007F:{port:04X}"
    return sum(line.split()[1] == wanted and line.split()[3] == "0A" for line in Path("/proc/net/tcp").read_text().splitlines())


def measure_floor(folder: Path, clients: list[Client], body_bytes: int, processes: int, rounds: int) -> Row:
    """What the HTTP of a Python server costs by itself, fed as the tickets are."""
    bodies = make_bodies(folder, clients, 20_000, bound=False)
    floor, theirs = [], []
    with fixed_body(body_bytes, processes):
        for _ in range(rounds):
            floor.append(wrk(folder, f"http://127.0.0.1:{FIXED_PORT}", bodies, once=False))
            theirs.append(wrk(folder, f"http://127.0.0.1:{NGINX_PORTS[0]}", bodies, once=False))
    return row("HTTP, fixed body, same libraries", floor, theirs)


def row(name: str, ours: list[Measured], theirs: list[Measured]) -> Row:
    """Medians, and the median of the rounds' own ratios."""
    ratio = median([a.rate / b.rate for a, b in zip(ours, theirs, strict=True)])
    rate, peer = median([m.rate for m in ours]), median([m.rate for m in theirs])
    p50, p99 = median([m.p50 for m in ours]), median([m.p99 for m in ours])
    figures = (f"{rate:,.0f}", f"{peer:,.0f}", f"{ratio:.2f}", f"{p50:.2f}", f"{p99:.2f}")
    return Row(name, figures, {"requests": rate, "nginx": peer, "ratio": ratio, "p50_ms": p50, "p99_ms": p99})


def unverified() -> ssl.SSLContext:
    """For one request of our own to a server whose certificate this run made."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def reply_bytes(authnode: Authnode, client: Client) -> int:
    """The size of one reply, which nginx's fixed body gets too."""
    sent = exchange.ask_ticket(client.id, client.key, SERVICE, now=time.time(), entropy=entropy.system)
    status, reply = authnode.request(messages.TICKET_PATH, sent.body)
    exchange.accept_ticket(sent, reply)
    assert status == 200
    return len(reply)


def run_plain(folder: Path, rounds: int, files: ServerFiles) -> tuple[list[Row], list[str]]:
    """Both HTTP rows, and the start and memory of an Authnode with 10,000 keys."""
    authnode = prepare(folder / "plain", replayEntries=REPLAY_ENTRIES)
    clients = fill(authnode)
    started = time.monotonic()
    authnode.start()
    start_seconds = time.monotonic() - started
    try:
        assert authnode.process is not None
        workers = authnode.worker_pids()
        peers = (f"http://127.0.0.1:{authnode.port}", f"http://127.0.0.1:{NGINX_PORTS[0]}")
        size = reply_bytes(authnode, clients[0])
        with nginx(folder, files, size, len(workers)):
            rows = [measure(folder, clients, peers, authnode, rounds, bound=bound) for bound in (False, True)]
            rows.append(measure_floor(folder, clients, size, len(workers), rounds))
        largest = max(resident_mib(pid, without=REPLAY_FILE) for pid in (authnode.process.pid, *workers))
    finally:
        authnode.stop()
    notes = [
        f"{KEYS:,} keys: started in {start_seconds:.2f} s; largest process {largest:.0f} MiB, the shared replay table aside",
        "ratio: the median of the rounds' own ratios; verifiers as stock makes them, or bound to the request as ours does",
    ]
    return rows, notes


def run_tls(folder: Path, rounds: int, files: ServerFiles) -> Row:
    tls = {"certFile": str(files.certificate), "keyFile": str(files.key)}
    authnode = prepare(folder / "tls", replayEntries=REPLAY_ENTRIES, tls=tls)
    clients = fill(authnode)
    authnode.start()
    authnode.tls = unverified()
    try:
        peers = (f"https://127.0.0.1:{authnode.port}", f"https://127.0.0.1:{NGINX_PORTS[1]}")
        with nginx(folder, files, reply_bytes(authnode, clients[0]), len(authnode.worker_pids())):
            return measure(folder, clients, peers, authnode, rounds, bound=False)
    finally:
        authnode.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Tickets a second, beside nginx.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    need("wrk", "nginx")
    with tempfile.TemporaryDirectory(prefix="cubeauth-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's workers run as somebody else
        (folder / "wrk.lua").write_text(WRK_SCRIPT)
        files = Authority(folder).server()
        rows, notes = run_plain(folder, arguments.rounds, files)
        rows.append(run_tls(folder, arguments.rounds, files))
    title = "Tickets a second, beside nginx answering a fixed body of the same size"
    report(title, ("requests/s", "nginx/s", "ratio", "p50 ms", "p99 ms"), rows, notes, as_json=arguments.json)


if __name__ == "__main__":
    main()
