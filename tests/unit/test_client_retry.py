"""The verdict whether and when to try again: pure, so every bound is checked with chance in hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeauth_client.cache import CacheSettings, refresh_delay
from cubeauth_client.retry import RetryPolicy, full_jitter, next_delay, uniform

POLICY = RetryPolicy(rounds=4, base=1.0, ceiling=5.0, total=100.0)


def highest(count: int) -> bytes:
    return b"\xff" * count


def lowest(count: int) -> bytes:
    return bytes(count)


def half(count: int) -> bytes:
    return b"\x80" + bytes(count - 1)


def test_a_delay_is_drawn_from_nothing_up_to_a_bound_that_doubles() -> None:
    assert [full_jitter(1.0, 60.0, failures, half) for failures in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert full_jitter(1.0, 60.0, 3, lowest) == 0


def test_no_delay_is_over_the_ceiling_however_long_a_service_is_away() -> None:
    assert 4.99 < full_jitter(1.0, 5.0, 10_000, highest) < 5.0


def test_the_last_round_is_the_last() -> None:
    assert next_delay(POLICY, rounds=3, elapsed=0.0, entropy=half) == 2.0
    assert next_delay(POLICY, rounds=4, elapsed=0.0, entropy=half) is None


def test_no_round_begins_after_the_total_time() -> None:
    assert next_delay(POLICY, rounds=1, elapsed=99.4, entropy=half) == 0.5
    assert next_delay(POLICY, rounds=1, elapsed=99.5, entropy=half) is None


@given(draw=st.binary(min_size=7, max_size=7), bound=st.floats(min_value=1e-6, max_value=1e6))
def test_a_draw_is_never_negative_and_never_the_bound(draw: bytes, bound: float) -> None:
    assert 0 <= uniform(lambda _count: draw, bound) < bound


def test_a_draw_uses_all_its_range() -> None:
    assert uniform(half, 1.0) == 0.5
    assert uniform(lowest, 1.0) == 0.0
    assert uniform(highest, 1.0) == pytest.approx(1.0)


def test_a_ticket_is_refreshed_at_two_thirds_of_its_life_give_or_take_a_tenth() -> None:
    settings = CacheSettings()
    assert refresh_delay(settings, 3600, half) == pytest.approx(2400)
    assert refresh_delay(settings, 3600, lowest) == pytest.approx(2040)
    assert refresh_delay(settings, 3600, highest) == pytest.approx(2760)


def test_a_ticket_that_lives_for_a_moment_is_not_refreshed_without_pause() -> None:
    assert refresh_delay(CacheSettings(), 0.01, lowest) == 1.0
