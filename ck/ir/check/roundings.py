"""Does a pass that rounds the factors of products do that alone? Without the roundings, bits are as before.

How far rounding to bf16 moves a sum depends on what cancels in it, so a bound on the results says little: the
module after the pass is run once more with the attribute `compute` taken off its products.
"""

from ck.ir.check.checker import Judged, differences
from ck.ir.check.runs import NotRun, Outcome
from ck.ir.check.tier import BITS
from ck.ir.op import Product


def judge_roundings(found: Judged) -> set[str]:
    """Raise CheckFailure when more than the roundings has changed; no entry is new."""
    exact = found.new.clone()
    for op in exact.walk():
        if isinstance(op, Product):
            op.attributes.pop("compute", None)
    for (entry, case), before in found.before.items():
        if not isinstance(before, Outcome):
            continue
        try:
            after = found.runner.run(exact, entry, case)
        except (NotRun, KeyError) as error:
            raise found.fail(entry, str(case), f"cannot be run: {error}") from error
        for key, difference in differences(before, after, BITS, case):
            if not difference.agrees:
                text = f"{key} is another one even without rounded factors: {difference}"
                raise found.fail(entry, str(case), text)
    return set()
