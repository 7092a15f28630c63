"""The `qwen2` family: Qwen 2 and 2.5.

What sets it apart from llama: biases on q, k and v, and halves of a head turn together, as in transformers.
Source: Qwen2 technical report, arXiv:2407.10671, section 2.2.1; names from the GGUF specification.
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
    """A new model of the family; defaults are those of the 0.5B and 1.5B models. Raises UsageError."""
    return sizes.windowed(sizes.common("qwen2", rope_base=1e6, rms_eps=1e-6, tied=True))


def stored_as_one_plus(hp: HyperParameters) -> tuple[str, ...]:
    """Names of gains that the family's own parameters hold less 1: none."""
    return ()


def tensor_shapes(hp: HyperParameters) -> layers.Shapes:
    """Every tensor a file must have, and its shape, outermost dimension first."""
    return layers.tensor_shapes(hp, biases=layers.QKV)


def hidden_states(g: Graph) -> SSAValue:
    """The stack of layers and the final norm: [T, D]."""
    return layers.pre_norm_stack(g, "neox", SiluOp)
