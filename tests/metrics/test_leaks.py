"""The leak check against brute force over all runs of words."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from c2s.errors import ConfigError
from c2s.metrics.leaks import Leak, leak_check

TEXTS = st.lists(st.sampled_from("abcd"), max_size=10).map(" ".join)


def longest_run(one, other):
    runs = {tuple(other[i:j]) for i in range(len(other)) for j in range(i + 1, len(other) + 1)}
    return max(
        (j - i for i in range(len(one)) for j in range(i + 1, len(one) + 1) if tuple(one[i:j]) in runs), default=0
    )


def share(one, other, n):
    size = min(n, len(one))
    if not size:
        return 0.0
    held = {tuple(other[i : i + size]) for i in range(len(other) - size + 1)}
    grams = [tuple(one[i : i + size]) for i in range(len(one) - size + 1)]
    return sum(gram in held for gram in grams) / len(grams)


@given(TEXTS, st.lists(TEXTS, max_size=4), st.integers(1, 5))
@example("a b c d", ["d c b a", "a b"], 1)  # all n-grams in one text, the longest run in the other
def test_leak_check_is_brute_force(answer, training, n):
    (found,) = leak_check([answer], training, n=n)
    one = answer.split()
    each = [(longest_run(one, text.split()), share(one, text.split(), n)) for text in training]
    best = max(each, default=(0, 0.0))
    if not best[0]:
        assert found == Leak(None, 0, 0.0, verbatim=False, n_words=len(one))
        return
    assert found.nearest == each.index(best)
    assert found.longest_run == best[0]
    assert found.share == pytest.approx(best[1])
    assert found.verbatim == (best[0] == len(one))


def test_a_repeat_is_found_whatever_its_case_and_punctuation():
    training = [
        "",
        "B cells, mostly.",
        "These are T cells; they carry CD3D and CD3E, and were found in blood of one donor.",
    ]
    repeat = "these are t cells they carry CD3D and CD3E and were found in BLOOD of one donor"
    invented, part, none = "Platelets are small", "Here they carry CD3D and CD3E, and more.", None
    leaks = leak_check([repeat, invented, part, none], training)
    assert leaks[0] == Leak(2, 17, 1.0, verbatim=True, n_words=17)
    assert leaks[1] == Leak(2, 1, 0.0, verbatim=False, n_words=3)
    assert leaks[2] == Leak(2, 6, 0.0, verbatim=False, n_words=8)
    assert leaks[3] == Leak(None, 0, 0.0, verbatim=False, n_words=0)


def test_no_run_crosses_from_one_text_to_the_next():
    (leak,) = leak_check(["a b c d"], ["a b", "c d"])
    assert (leak.nearest, leak.longest_run, leak.verbatim) == (0, 2, False)


def test_n_grams_have_words():
    with pytest.raises(ConfigError, match="n=0"):
        leak_check(["a"], ["a"], n=0)
