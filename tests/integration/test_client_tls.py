"""HTTPS: whom the client believes, and what it says of whom it does not."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support import fake_authnode as fakes
from tests.support.certs import Authority, ServerFiles
from tests.support.fake_authnode import FakeAuthnode

from cubeauth import entropy
from cubeauth.errors import InputError
from cubeauth.exchange import TicketGrant
from cubeauth_client.authnode import Authnode
from cubeauth_client.endpoints import EndpointSet, parse_endpoints
from cubeauth_client.errors import AuthnodeUnreachable
from cubeauth_client.retry import RetryPolicy
from cubeauth_client.tickets import get_ticket
from cubeauth_client.tls import client_context
from cubeauth_runtime.clock import SystemClock


@contextlib.asynccontextmanager
async def serving(files: ServerFiles | None, newest: ssl.TLSVersion | None = None) -> AsyncIterator[FakeAuthnode]:
    fake = FakeAuthnode(entropy.system(32))
    fake.add(fakes.record("reader"))
    context = None
    if files is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        if newest is not None:
            context.maximum_version = newest
            context.set_ciphers("ALL:@SECLEVEL=0")
    await fake.start(context)
    try:
        yield fake
    finally:
        await fake.stop()


async def ask(fake: FakeAuthnode, ca_file: Path | None, host: str = "127.0.0.1") -> TicketGrant:
    address = f"https://{fake.address.replace('127.0.0.1', host)}"
    authnode = Authnode(
        EndpointSet(parse_endpoints(address)),
        clock=SystemClock(),
        tls_context=client_context(ca_file),
        policy=RetryPolicy(rounds=2, base=0.01),
    )
    return await get_ticket(authnode, "reader", fake.principals["reader"].auth_key, "AuthService")


async def test_a_certificate_of_the_ca_that_was_named_is_good(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with serving(authority.server()) as fake:
        assert (await ask(fake, authority.ca_file)).client_id == "reader"


async def test_the_servers_own_certificate_may_be_named_as_stock_takes_it(tmp_path: Path) -> None:
    files = Authority(tmp_path).server()
    async with serving(files) as fake:
        assert (await ask(fake, files.certificate)).client_id == "reader"


@pytest.mark.parametrize("named", ["another CA", None])
async def test_a_certificate_of_another_ca_is_refused_and_nothing_is_sent(tmp_path: Path, named: str | None) -> None:
    ca_file = None if named is None else Authority(tmp_path, named).ca_file
    async with serving(Authority(tmp_path).server()) as fake:
        with pytest.raises(AuthnodeUnreachable, match=r"its certificate is not trusted: .*issuer certificate"):
            await ask(fake, ca_file)
        assert fake.seen == []


async def test_a_certificate_of_another_name_is_refused_and_nothing_is_sent(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with serving(authority.server("authnode.example")) as fake:
        with pytest.raises(AuthnodeUnreachable, match=r"its certificate is not trusted: .*(mismatch|not valid for)"):
            await ask(fake, authority.ca_file)
        with pytest.raises(AuthnodeUnreachable, match=r"not trusted: Hostname mismatch"):
            await ask(fake, authority.ca_file, host="localhost")
        assert fake.seen == []


async def test_the_host_name_goes_to_the_server(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    names: list[str | None] = []
    async with serving(None) as fake:
        await fake.stop()
        files = authority.server("localhost")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        context.sni_callback = lambda _socket, name, _context: names.append(name)
        await fake.start(context)
        await ask(fake, authority.ca_file, host="localhost")
    assert names == ["localhost"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")  # it is what the test is about
async def test_tls_below_1_2_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with serving(authority.server(), newest=ssl.TLSVersion.TLSv1_1) as fake:
        with pytest.raises(AuthnodeUnreachable, match=r"does it speak TLS 1\.2 or later\?"):
            await ask(fake, authority.ca_file)
        assert fake.seen == []


async def test_https_to_a_server_without_it_says_so(tmp_path: Path) -> None:
    async with serving(None) as fake:
        with pytest.raises(AuthnodeUnreachable, match=r"does it speak HTTPS\?"):
            await ask(fake, Authority(tmp_path).ca_file)


@pytest.mark.parametrize(
    ("content", "problem"), [(b"no PEM", "no certificate in PEM form"), (b"\xff\xfe", "not UTF-8"), (b"", "PEM")]
)
def test_a_ca_file_that_is_none_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"{path}: .*{problem}"):
        client_context(path)


def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pem: cannot be read: No such file"):
        client_context(tmp_path / "none.pem")
