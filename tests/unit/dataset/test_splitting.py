"""Which pictures become the ones to test on."""

from __future__ import annotations

from collections import Counter

import pytest

from stages.dataset.splitting import choose_val
from stages.program.errors import InputError


def numbered(label: str, n: int) -> list[tuple[str, str]]:
    return [(label, f"{label}{number}") for number in range(n)]


@pytest.mark.parametrize(
    ("n", "fraction", "chosen"), [(2, 0.2, 1), (5, 0.2, 1), (8, 0.2, 2), (3, 0.99, 1), (3, 0.5, 1), (40, 0.5, 20)]
)
def test_a_share_of_each_class(n: int, fraction: float, chosen: int) -> None:
    pictures = numbered("a", n) + numbered("b", 10)
    taken = Counter(
        label for (label, _), is_val in zip(pictures, choose_val(pictures, fraction, 0), strict=True) if is_val
    )
    assert taken == {"a": chosen, "b": min(max(round(10 * fraction), 1), 8)}


def test_order_and_other_classes_do_not_matter_and_the_seed_does() -> None:
    pictures = numbered("a", 50) + numbered("b", 30)

    def val(listed: list[tuple[str, str]], seed: int = 0) -> set[tuple[str, str]]:
        return {picture for picture, is_val in zip(listed, choose_val(listed, 0.2, seed), strict=True) if is_val}

    assert val(pictures) == val(pictures[::-1])
    assert {picture for picture in val(pictures) if picture[0] == "a"} == val(numbered("a", 50) + numbered("c", 9)) - {
        picture for picture in val(numbered("c", 9) + numbered("d", 9)) if picture[0] == "c"
    }
    assert val(pictures) != val(pictures, seed=1)
    for added in range(20):
        before, after = val(pictures), val([*pictures, ("a", f"new{added}")])
        assert len(before - after) <= 1


def test_copies_land_on_the_same_side() -> None:
    pictures = [(label, f"{number % 13}") for label in ("a", "b") for number in range(60)] + numbered("a", 40)
    for seed in range(20):
        sides: dict[str, set[bool]] = {}
        chosen = choose_val(pictures, 0.3, seed)
        for (_, digest), is_val in zip(pictures, chosen, strict=True):
            sides.setdefault(digest, set()).add(is_val)
        assert all(len(side) == 1 for side in sides.values())
        assert sum(chosen[:60]) + sum(chosen[120:]) == 30
    # Five copies do not fit into a share of two, yet something has to be tested on.
    copies, others = [("a", "x")] * 5 + [("a", "y")] * 3, numbered("b", 5)
    expected = [False] * 5 + [True] * 3
    assert choose_val(copies + others, 0.2, 0)[:8].tolist() == expected
    assert choose_val(others + copies, 0.2, 0)[5:].tolist() == expected


@pytest.mark.parametrize("small", [2, 3, 5])
def test_two_groups_stay_to_train_on(small: int) -> None:
    """A large group, which does not fit, and small ones, which all would."""
    pictures = [("a", "large")] * 30 + numbered("a", small) + numbered("b", 40)
    for seed in range(20):
        of_a = choose_val(pictures, 0.2, seed)[: 30 + small]
        assert not of_a[:30].any()
        assert of_a[30:].sum() == small - 1


def test_another_class_that_would_have_none_to_test_on_comes_first() -> None:
    """All that there is of a class is in groups with another one, of which two groups would else stay."""
    pictures = [("a", "x"), ("b", "x"), ("a", "y"), ("b", "y"), *numbered("b", 1)]
    for seed in range(20):
        chosen = choose_val(pictures, 0.2, seed)
        assert sorted(label for (label, _), is_val in zip(pictures, chosen, strict=True) if is_val)[:1] == ["a"]


@pytest.mark.parametrize("pictures", [[("a", "x")], [("a", "x")] * 5])
def test_nothing_to_choose_from(pictures: list[tuple[str, str]]) -> None:
    with pytest.raises(InputError, match=r"of the pictures of the class 'a' can be used, and no two of them differ"):
        choose_val(pictures + numbered("b", 5), 0.2, 0)
