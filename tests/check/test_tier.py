"""When two arrays agree: bits, bounds, and what is not finite."""

import re
from pathlib import Path

import numpy as np
import pytest
from xdsl.transforms.canonicalize import CanonicalizePass

from ck.ir.check.tier import BITS, Tier, compare, worst
from ck.passes.pipeline import ORDER, tier_of

BOUND = Tier(1e-6, "rounds")
LOSSY = Tier(1e-6, "quantises", specials=False)


def rows(**changes: float) -> np.ndarray:
    """Three rows of numbers around 1; `r1c2=5.0` puts 5 into column 2 of row 1."""
    made = np.linspace(0.5, 1.5, 12, dtype=np.float32).reshape(3, 4)
    for place, value in changes.items():
        made[int(place[1]), int(place[3])] = value
    return made


@pytest.mark.parametrize(
    ("before", "after", "bits", "bound"),
    [
        ({}, {}, True, True),
        ({"r0c0": 0.0}, {"r0c0": -0.0}, False, True),
        ({}, {"r1c1": np.nextafter(rows()[1, 1], np.float32(2))}, False, True),
        ({}, {"r1c1": 0.9}, False, False),
        ({"r1c1": np.nan}, {"r1c1": np.nan}, True, True),
        ({"r1c1": np.nan}, {}, False, False),
        ({}, {"r1c1": np.nan}, False, False),
        ({"r1c1": np.inf}, {"r1c1": np.inf}, True, True),
        ({"r1c1": np.inf}, {"r1c1": -np.inf}, False, False),
        ({"r1c1": np.inf}, {"r1c1": np.nan}, False, False),
        ({"r1c1": np.inf}, {"r1c1": 3e38}, False, False),
    ],
)
def test_agreement(before: dict[str, float], after: dict[str, float], bits: bool, bound: bool) -> None:
    pair = rows(**before), rows(**after)
    assert compare(*pair, BITS).agrees == bits
    assert compare(*pair, BOUND).agrees == bound


def test_payloads_of_nan_do_not_count() -> None:
    one, other = rows(), rows()
    one.view(np.uint32)[0, 0], other.view(np.uint32)[0, 0] = 0x7FC00000, 0xFFC12345
    assert compare(one, other, BITS).agrees


def test_the_element_and_both_numbers_are_told() -> None:
    found = compare(rows(), rows(r2c3=7.0, r2c2=1.6), BOUND)
    assert (found.index, found.before, found.after) == ((2, 3), 1.5, 7.0)
    assert str(found) == "[2, 3] was 1.5 and is 7"
    found = compare(rows(), rows(r2c3=7.0, r2c2=1.6), BITS)
    assert found.index == (2, 2)
    found = compare(rows(), rows(r0c1=np.nan, r2c3=7.0), BOUND)
    assert found.index == (0, 1)


def test_one_wrong_row_is_not_lost_among_a_million() -> None:
    before = np.ones((1 << 16, 16), np.float32)
    after = before.copy()
    after[77] *= np.float32(1.01)
    assert ((after - before) ** 2).sum() / (before**2).sum() < 1e-8
    assert compare(before, after, BOUND).error == pytest.approx(1e-4, rel=1e-3)


def test_a_small_row_is_held_against_the_others() -> None:
    """Where terms cancel a row is nothing but rounding."""
    before, after = rows(r1c1=1.0), rows(r1c1=1.001)
    before[0], after[0] = 1e-12, 3e-12
    assert compare(before, after, BOUND).agrees
    assert not compare(before[:1], after[:1], BOUND).agrees


def test_sizes_types_and_whole_numbers() -> None:
    fewer = compare(rows(), rows()[:2], BOUND)
    assert not fewer.agrees
    assert str(fewer) == "was 3x4 float32 and is 2x4 float32"
    assert not compare(rows(), rows().astype(np.float64), BOUND).agrees
    numbers = np.arange(4, dtype=np.uint8)
    assert compare(numbers, numbers.copy(), BITS).agrees
    assert compare(numbers, numbers[::-1], BITS).index == (0,)
    halves = rows().astype(np.float16)
    assert compare(halves, halves.copy(), BITS).agrees


def test_what_is_not_finite_may_spread_where_the_pass_says_so() -> None:
    """In the case that puts some in, and nowhere else."""
    before, after = rows(r1c1=np.inf), rows()
    after[1] = np.nan
    assert compare(before, after, LOSSY, special=True).agrees
    assert not compare(before, after, LOSSY).agrees
    assert not compare(before, after, BOUND, special=True).agrees
    after[0, 0] = 7
    assert not compare(before, after, LOSSY, special=True).agrees


def test_the_worst_is_the_first_that_disagrees() -> None:
    fine, off = compare(rows(), rows(), BOUND), compare(rows(), rows(r0c0=9), BOUND)
    assert worst([fine, off, fine]) is off
    assert worst([]).agrees


def test_every_pass_says_what_it_promises() -> None:
    for kind in (*ORDER, CanonicalizePass):
        tier = tier_of(kind)
        assert tier.why
        assert tier.bits or tier.bound <= 1e-5 or hasattr(kind, "JUDGE")
        assert hasattr(kind, "TIER") == kind.name.startswith(("ck-", "rt-"))


def test_the_document_says_it_too() -> None:
    page = Path(__file__).parents[2] / "docs" / "debugging.md"
    lines = page.read_text().splitlines()
    rows = [line for line in lines if re.match(r"\| `[\w-]+` \| (equal|an error)", line)]
    kinds = dict.fromkeys((*ORDER, CanonicalizePass))
    tiers = {kind.name: tier_of(kind) for kind in kinds}
    assert rows == [
        f"| `{name}` | {t} | {t.where(quantized=True)} | {t.where(rounded=True)} | {t.where(coarse=True)} "
        f"| {t.why} |"
        for name, t in tiers.items()
    ]
