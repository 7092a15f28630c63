"""`ck.global_norm`"""

from xdsl.ir import Attribute

from ck.ir.ops.global_norm import GlobalNormOp
from ck.ir.types import tensor, trained
from tests.ops.case import OpCase, Refusal, Sample


def sample(max_norm: float, *gradients: Attribute) -> Sample:
    """Gradients and the norm they may have."""
    return Sample((tensor(8), *gradients), given={0: (*[0.0] * 7, max_norm)})


CASE = OpCase(
    GlobalNormOp,
    samples=(
        # No clipping; a norm above the largest, over several pieces of 4096 elements; one below it.
        sample(0.0, tensor(17)),
        sample(1.0, trained(100, 83), tensor(4097), trained(65, 33)),
        sample(1e6, trained(65, 65), tensor(5)),
    ),
    refusals=(
        Refusal(Sample((tensor(7), tensor(5))), "hyper is tensor<8x"),
        Refusal(Sample((tensor(8),)), "one gradient at least is required, got none"),
    ),
)
