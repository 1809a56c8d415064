"""Ids as they hurt: small ones, and those beside the borders of nodes, bitmaps and ranges."""

from hypothesis import strategies as st

from shmreclaim.lib.idr import INT_MAX, UINT_MAX

BORDERS = [0, 64, 1 << 10, 1 << 12, 1 << 16, 1 << 18, 1 << 24, 1 << 30, INT_MAX - 1]

small = st.integers(0, 200)
at_borders = st.builds(lambda border, step: max(border + step, 0), st.sampled_from(BORDERS), st.integers(-2, 2))
ids = st.one_of(small, small, at_borders)
u32_ids = st.one_of(ids, st.builds(lambda back: UINT_MAX - back, st.integers(0, 3)), st.integers(INT_MAX, UINT_MAX))
any_ids = st.one_of(ids, st.integers(-3, -1), st.just(UINT_MAX + 5))
values = st.one_of(st.just(0), st.integers(1, 1 << 40), st.sampled_from([-(1 << 63), (1 << 63) - 1]))
words = st.integers(-(1 << 63), (1 << 63) - 1)
