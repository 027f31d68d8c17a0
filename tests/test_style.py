from __future__ import annotations

from itertools import permutations

from sddp.display.style import COLORS, STRATEGIES, styles


def test_a_strategy_has_one_color_in_every_figure():
    names = ("SDDP at 1.5 %", "myopic at 1.5 %", "1/N", "a strategy of mine")
    for order in permutations(names):
        found = styles(order)
        assert list(found) == list(order)
        for name, key in (("SDDP at 1.5 %", "SDDP"), ("myopic at 1.5 %", "myopic"), ("1/N", "1/N")):
            assert (found[name].color, found[name].marker) == STRATEGIES[key]


def test_the_longest_beginning_decides():
    assert styles(["SDDP within the true limit"])["SDDP within the true limit"].color == "#56B4E9"


def test_no_two_series_of_a_figure_look_alike():
    names = [f"SDDP at {k} %" for k in range(4)] + [f"other {k}" for k in range(30)]
    looks = {(style.color, style.dash) for style in styles(names).values()}
    assert len(looks) == len(names)
    assert len({style.color for style in styles(names[:4]).values()}) == 1
    assert styles(["x"])["x"].color == COLORS[0]
