"""Hypothesis strategies for JSON values."""

from hypothesis import strategies as st

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | names
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)
