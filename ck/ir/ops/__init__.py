"""Every op of the `ck` dialect. Adding an op adds its file and its line here."""

from ck.ir.op import CkOp
from ck.ir.ops.accumulate import AccumulateOp
from ck.ir.ops.adamw import AdamwOp
from ck.ir.ops.add import AddOp
from ck.ir.ops.attention import AttentionOp
from ck.ir.ops.bias_add import BiasAddOp
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.causal_conv1d import CausalConv1dOp
from ck.ir.ops.cross_entropy import CrossEntropyBwdOp, CrossEntropyOp
from ck.ir.ops.delta_rule import DeltaRuleOp
from ck.ir.ops.embed import EmbedBwdOp, EmbedOp
from ck.ir.ops.exp import ExpOp
from ck.ir.ops.fused import FusedOp, YieldOp
from ck.ir.ops.gain import GainOp
from ck.ir.ops.gelu_tanh import GeluTanhBwdOp, GeluTanhOp
from ck.ir.ops.global_norm import GlobalNormOp
from ck.ir.ops.glu import GluOp
from ck.ir.ops.kv_append import KvAppendOp
from ck.ir.ops.l2_norm import L2NormBwdOp, L2NormOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.linear_multi import LinearMultiOp
from ck.ir.ops.matmul import MatmulOp
from ck.ir.ops.mul import MulOp
from ck.ir.ops.packed_attention import PackedAttentionBwdOp, PackedAttentionOp
from ck.ir.ops.packed_conv1d import PackedConv1dBwdOp, PackedConv1dOp
from ck.ir.ops.packed_delta_rule import PackedDeltaRuleBwdOp, PackedDeltaRuleOp
from ck.ir.ops.quantize_rows import QuantizeRowsOp
from ck.ir.ops.reduce_rows import ReduceRowsOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.rms_norm import RmsNormBwdOp, RmsNormOp
from ck.ir.ops.rope import RopeOp
from ck.ir.ops.rope_table import RopeTableOp
from ck.ir.ops.scale import ScaleOp
from ck.ir.ops.sgd import SgdOp
from ck.ir.ops.sigmoid import SigmoidBwdOp, SigmoidOp
from ck.ir.ops.silu import SiluBwdOp, SiluOp
from ck.ir.ops.softcap import SoftcapBwdOp, SoftcapOp
from ck.ir.ops.softplus import SoftplusOp
from ck.ir.ops.split import SplitBwdOp, SplitOp
from ck.ir.ops.weight import WeightOp

OPS: tuple[type[CkOp], ...] = (
    AccumulateOp,
    AdamwOp,
    AddOp,
    AttentionOp,
    BiasAddOp,
    CacheOp,
    CausalConv1dOp,
    CrossEntropyBwdOp,
    CrossEntropyOp,
    DeltaRuleOp,
    EmbedBwdOp,
    EmbedOp,
    ExpOp,
    FusedOp,
    GainOp,
    GeluTanhBwdOp,
    GeluTanhOp,
    GlobalNormOp,
    GluOp,
    KvAppendOp,
    L2NormBwdOp,
    L2NormOp,
    LinearMultiOp,
    LinearOp,
    MatmulOp,
    MulOp,
    PackedAttentionBwdOp,
    PackedAttentionOp,
    PackedConv1dBwdOp,
    PackedConv1dOp,
    PackedDeltaRuleBwdOp,
    PackedDeltaRuleOp,
    QuantizeRowsOp,
    ReduceRowsOp,
    ReshapeOp,
    RmsNormBwdOp,
    RmsNormOp,
    RopeOp,
    RopeTableOp,
    ScaleOp,
    SgdOp,
    SigmoidBwdOp,
    SigmoidOp,
    SiluBwdOp,
    SiluOp,
    SoftcapBwdOp,
    SoftcapOp,
    SoftplusOp,
    SplitBwdOp,
    SplitOp,
    WeightOp,
    YieldOp,
)
