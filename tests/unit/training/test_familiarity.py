"""Whether a picture is like those that a model was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.program.errors import InputError
from stages.training import familiarity
from stages.training.cross_validation import cross_validate
from stages.training.design import Problem
from stages.training.familiarity import FILE, THRESHOLD, Familiarity, familiarity_of_head, fit_familiarity
from stages.training.linear import fit_head

Float = NDArray[np.float32]
FEATURES = 30


def drawn(n: int, classes: range, seed: int, centre: float = 5.0) -> tuple[Float, NDArray[np.int64]]:
    """Draw pictures' features: classes apart in the first few, and much that varies in all classes alike."""
    centres = np.zeros((10, FEATURES))
    centres[:, :6] = np.random.default_rng(0).normal(size=(10, 6)) * 2
    random = np.random.default_rng(seed)
    labels = random.choice(np.array(classes), n)
    spread = np.where(np.arange(FEATURES) < 6, 1, 4)
    rows = centre + centres[labels] + random.normal(size=(n, FEATURES)) * spread
    return rows.astype(np.float32), labels


def area(familiar: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """The probability that one of the first is more familiar than one of the others."""
    return float((familiar[:, np.newaxis] > others).mean() + (familiar[:, np.newaxis] == others).mean() / 2)


def test_other_classes_and_other_pictures_are_told_and_few_of_its_own(tmp_path: Path) -> None:
    rows, labels = drawn(600, range(4), 1)
    problem = Problem([rows[:, np.newaxis]], labels, standardise=True)
    _, best, logits = cross_validate(problem, [0.01, 0.1], 5, 0, shown=False)
    head, _ = fit_head(problem, best.weight_decay)
    known = familiarity_of_head(problem, logits, 5, 0)
    known.write(tmp_path)
    read = Familiarity.read(tmp_path)
    assert read
    own, _ = drawn(2000, range(4), 2)
    near, _ = drawn(500, range(4, 10), 3)
    far, _ = drawn(500, range(4), 4, centre=12.0)
    shares = [read(one, head.logits(one)) for one in (own, near, far)]
    assert np.array_equal(shares[0], known(own, head.logits(own)))
    assert all(((one > 0) & (one <= 1)).all() for one in shares)
    assert (shares[0] < THRESHOLD).mean() == pytest.approx(THRESHOLD, abs=0.02)
    assert shares[0].mean() == pytest.approx(0.5, abs=0.04)
    assert area(shares[0], shares[2]) > 0.99
    highest = [
        np.exp(x - np.logaddexp.reduce(x, axis=1)[:, np.newaxis]).max(axis=1) for x in map(head.logits, (own, near))
    ]
    assert area(shares[0], shares[1]) > max(0.85, area(*highest))


def test_where_one_split_is_held_out_what_was_trained_on_is_the_measure() -> None:
    rows, labels = drawn(400, range(3), 5)
    logits = np.eye(3, dtype=np.float32)[labels] * 4
    held = np.arange(300, 400)
    known = fit_familiarity(rows, labels, logits, [held], 0)
    assert known.n_reference == 100
    np.testing.assert_allclose(known.mean, rows[:300].mean(axis=0), rtol=1e-5)
    shares = known(rows[held], logits[held])
    assert shares.min() == pytest.approx(2 / 101), "of the least familiar: it, and the one like it"
    assert known(rows[held[:1]] + 100, logits[held[:1]] * 0) == pytest.approx(1 / 101), "less familiar than any"
    assert shares.max() == 1
    assert shares.mean() == pytest.approx(0.52, abs=0.03)
    assert known.reference[2, 0] == 1, "of the least familiar: ranks count from 1"
    # A picture like a held-out one is as familiar: that one, it itself and all that are less so are counted.
    less = np.array([(shares <= share).sum() for share in shares])
    assert ((shares * 101 - 1 >= 1) & (shares * 101 >= less)).all()
    whitened = (rows[:300] - known.mean) @ known.projection
    within = whitened - known.centres[labels[:300]]
    assert within.var(axis=0).mean() == pytest.approx(1, abs=0.1)


def test_of_many_pictures_some_are_asked_and_rare_classes_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiarity, "MAX_PICTURES", 50)
    rows, labels = drawn(300, range(2), 6)
    labels[:3] = 2
    logits = np.random.default_rng(7).normal(size=(300, 3)).astype(np.float32)
    known = familiarity_of_head(Problem([rows[:, np.newaxis, :10], rows[:, np.newaxis, 10:]], labels), logits, 5, 0)
    assert 50 <= known.n_reference <= 53
    assert known.centres.shape[0] == 3
    assert np.isfinite(known(rows, logits)).all()


def test_few_pictures_say_little() -> None:
    rows, labels = drawn(8, range(2), 8)
    labels[:] = np.arange(8) % 2
    known = familiarity_of_head(Problem([rows[:, np.newaxis]], labels), np.zeros((8, 2), np.float32), 5, 0)
    far = known(rows + 1000, np.zeros((8, 2), np.float32))
    assert far.max() < known(rows, np.zeros((8, 2), np.float32)).min()
    assert far.min() > THRESHOLD, "and nothing is below the threshold"


def test_of_few_pictures_with_many_features_few_are_flagged_too() -> None:
    """The statistics of all pictures have no more directions than a fold's, in which held-out ones were measured."""
    shares = []
    for seed in range(4):
        rows, labels = drawn(600, range(3), seed)
        mixed = np.random.default_rng(seed).normal(size=(FEATURES, 400)) / 5
        wide = (rows @ mixed + np.random.default_rng(9 + seed).normal(size=(600, 400))).astype(np.float32)
        problem = Problem([wide[:100, np.newaxis]], labels[:100], standardise=True)
        _, best, logits = cross_validate(problem, [0.1], 5, 0, shown=False)
        head, _ = fit_head(problem, best.weight_decay)
        known = familiarity_of_head(problem, logits, 5, 0)
        assert known.projection.shape[1] < 80, "four fifths of the pictures tell of fewer"
        shares.append((known(wide[100:], head.logits(wide[100:])) < THRESHOLD).mean())
    assert np.mean(shares) == pytest.approx(THRESHOLD, abs=0.02)


def test_a_damaged_file_gets_a_sentence(tmp_path: Path) -> None:
    assert Familiarity.read(tmp_path) is None
    (tmp_path / FILE).write_bytes(b"no")
    with pytest.raises(InputError, match=f"{FILE} is damaged"):
        Familiarity.read(tmp_path)
