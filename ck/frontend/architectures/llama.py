"""The `llama` family: Llama 1 to 3, Mistral, SmolLM, Nanbeige 4.1 and others converted to its names.

Source: Touvron et al. 2023, arXiv:2302.13971; names of keys and tensors from the GGUF specification.
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
    header.refuse("expert_count", 0)
    return header.windowed(header.common(n_vocab, tied))


def template(sizes: TemplateSizes) -> HyperParameters:
    """A new model of the family; defaults are those of transformers' LlamaConfig. Raises UsageError."""
    return sizes.windowed(sizes.common("llama", rope_base=1e4, rms_eps=1e-6, tied=False))


def stored_as_one_plus(hp: HyperParameters) -> tuple[str, ...]:
    """Names of gains that the family's own parameters hold less 1: none."""
    return ()


def tensor_shapes(hp: HyperParameters) -> layers.Shapes:
    """Every tensor a file must have, and its shape, outermost dimension first."""
    return layers.tensor_shapes(hp)


def hidden_states(g: Graph) -> SSAValue:
    """The stack of layers and the final norm: [T, D]."""
    # Converters permute the rows of q and k, so that neighbours turn together.
    return layers.pre_norm_stack(g, "interleaved", SiluOp)
