"""Addresses of an Authnode as people write them, and the order in which they are tried."""

from __future__ import annotations

import pytest

from cubeauth.errors import InputError
from cubeauth_client.endpoints import Endpoint, EndpointSet, parse_endpoint, parse_endpoints


@pytest.mark.parametrize(
    ("text", "https", "url"),
    [
        ("127.0.0.1:8080", False, "http://127.0.0.1:8080"),
        ("authnode-0.authnode:8080", True, "https://authnode-0.authnode:8080"),
        ("http://a:1", True, "http://a:1"),
        ("https://a:1/", False, "https://a:1"),
        ("localhost", False, "http://localhost:80"),
        ("https://localhost", False, "https://localhost:443"),
        ("[::1]:8080", False, "http://[::1]:8080"),
        ("http://[fe80::1%25eth0]:8080", False, "http://[fe80::1%25eth0]:8080"),
    ],
)
def test_an_address_is_read_as_it_is_meant(text: str, https: bool, url: str) -> None:
    assert parse_endpoint(text, https=https).url == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":8080",
        "a:port",
        "a:0",
        "a:65536",
        "ftp://a:1",
        "http://",
        "a b:1",
        "a\n:1",
        "http://a:1/path",
        "http://a:1/?x=1",
        "http://a:1/#x",
        "::1:8080",
        "[::1:8080",
        "a/b",
    ],
)
def test_what_is_no_address_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(InputError, match=r"https://HOST:PORT"):
        parse_endpoint(text)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        parse_endpoint("http://admin:hunter2@a:1")
    assert "hunter2" not in str(caught.value)
    assert "user name" in str(caught.value)


def test_several_addresses_keep_their_order_and_lose_repetitions() -> None:
    assert [e.url for e in parse_endpoints("b:1, a:1,b:1")] == ["http://b:1", "http://a:1"]
    assert parse_endpoints(["b:1", "a:1"]) == parse_endpoints("b:1,a:1")


@pytest.mark.parametrize("texts", [[], "", ",", [f"a{i}:1" for i in range(17)]])
def test_no_address_and_too_many_are_refused(texts: list[str] | str) -> None:
    with pytest.raises(InputError):
        parse_endpoints(texts)


A, B, C = (Endpoint("http", host, 1) for host in "abc")


def test_a_dead_endpoint_is_tried_after_the_others_until_its_time_is_over() -> None:
    endpoints = EndpointSet([A, B, C], dead_for=30)
    assert endpoints.candidates(0) == (A, B, C)
    endpoints.failed(A, 0)
    assert endpoints.candidates(29) == (B, C, A)
    assert endpoints.candidates(30) == (A, B, C)


def test_of_dead_endpoints_the_longest_dead_comes_first() -> None:
    endpoints = EndpointSet([A, B, C], dead_for=30)
    endpoints.failed(B, 1)
    endpoints.failed(C, 2)
    endpoints.failed(A, 3)
    assert endpoints.candidates(4) == (B, C, A)


def test_an_endpoint_that_answers_is_alive_again() -> None:
    endpoints = EndpointSet([A, B], dead_for=30)
    endpoints.failed(A, 0)
    endpoints.answered(A)
    assert endpoints.candidates(1) == (A, B)
