"""The `smollm3` family: SmolLM 3.

What sets it apart from llama: q and k of every fourth layer are not rotated.
Source: SmolLM3's release, huggingface.co/blog/smollm3 (after Yang et al. 2025, arXiv:2501.18795); names from
the GGUF specification. The interval is no key of a header: llama.cpp has it as a constant too.
"""

from xdsl.ir import SSAValue

from ck.frontend.architectures import layers
from ck.frontend.architectures.outward.smollm3 import UNROTATED
from ck.frontend.gguf import Metadata
from ck.frontend.graph import Graph
from ck.frontend.hyperparameters import HeaderReader, HyperParameters, TemplateSizes
from ck.ir.ops.silu import SiluOp


def read_hyperparameters(metadata: Metadata, n_vocab: int, tied: bool) -> HyperParameters:
    """The header's numbers, in range. Raises MalformedError, UnsupportedError naming the key."""
    header = HeaderReader(metadata)
    header.refuse("attention.sliding_window", 0)
    return header.common(n_vocab, tied)


def template(sizes: TemplateSizes) -> HyperParameters:
    """A new model of the family; defaults are those of the 3B model. Raises UsageError."""
    sizes.refuse_windows("smollm3")
    return sizes.common("smollm3", rope_base=5e6, rms_eps=1e-6, tied=True)


def stored_as_one_plus(hp: HyperParameters) -> tuple[str, ...]:
    """Names of gains that the family's own parameters hold less 1: none."""
    return ()


def tensor_shapes(hp: HyperParameters) -> layers.Shapes:
    """Every tensor a file must have, and its shape, outermost dimension first."""
    return layers.tensor_shapes(hp)


def hidden_states(g: Graph) -> SSAValue:
    """The stack of layers and the final norm: [T, D]."""
    return layers.pre_norm_stack(g, "interleaved", SiluOp, unrotated=UNROTATED)
