"""The `qwen3` family: dense models of Qwen 3.

What sets it apart from llama: RMSNorm on each head of q and k before the rotation, in which halves of a head
turn together, and a head size that is not D / H.
Source: Qwen3 technical report, arXiv:2505.09388, section 2; names from the GGUF specification.
"""

from xdsl.ir import SSAValue

from ck.frontend.architectures import layers
from ck.frontend.gguf import Metadata
from ck.frontend.graph import Graph
from ck.frontend.hyperparameters import HeaderReader, HyperParameters, TemplateSizes
from ck.ir.ops.silu import SiluOp


def read_hyperparameters(metadata: Metadata, n_vocab: int, tied: bool) -> HyperParameters:
    """The header's numbers, in range. Raises MalformedError, UnsupportedError naming the key."""
    header = HeaderReader(metadata)
    return header.windowed(header.common(n_vocab, tied))


def template(sizes: TemplateSizes) -> HyperParameters:
    """A new model of the family; defaults are those of the models up to 4B. Raises UsageError."""
    return sizes.windowed(sizes.common("qwen3", rope_base=1e6, rms_eps=1e-6, tied=True))


def stored_as_one_plus(hp: HyperParameters) -> tuple[str, ...]:
    """Names of gains that the family's own parameters hold less 1: none."""
    return ()


def tensor_shapes(hp: HyperParameters) -> layers.Shapes:
    """Every tensor a file must have, and its shape, outermost dimension first."""
    return layers.tensor_shapes(hp, norms=layers.HEAD_NORMS)


def hidden_states(g: Graph) -> SSAValue:
    """The stack of layers and the final norm: [T, D]."""
    return layers.pre_norm_stack(g, "neox", SiluOp)
