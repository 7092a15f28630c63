"""Every op of the `ck` dialect. Adding an op adds its file and its line here."""

from ck.ir.op import CkOp
from ck.ir.ops.add import AddOp
from ck.ir.ops.attention import AttentionOp
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.embed import EmbedOp
from ck.ir.ops.fused import FusedOp, YieldOp
from ck.ir.ops.gelu_tanh import GeluTanhOp
from ck.ir.ops.glu import GluOp
from ck.ir.ops.kv_append import KvAppendOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.linear_multi import LinearMultiOp
from ck.ir.ops.mul import MulOp
from ck.ir.ops.quantize_rows import QuantizeRowsOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.rope import RopeOp
from ck.ir.ops.rope_table import RopeTableOp
from ck.ir.ops.scale import ScaleOp
from ck.ir.ops.silu import SiluBwdOp, SiluOp
from ck.ir.ops.softcap import SoftcapBwdOp, SoftcapOp
from ck.ir.ops.weight import WeightOp

OPS: tuple[type[CkOp], ...] = (
    AddOp,
    AttentionOp,
    CacheOp,
    EmbedOp,
    FusedOp,
    GeluTanhOp,
    GluOp,
    KvAppendOp,
    LinearMultiOp,
    LinearOp,
    MulOp,
    QuantizeRowsOp,
    ReshapeOp,
    RmsNormOp,
    RopeOp,
    RopeTableOp,
    ScaleOp,
    SiluBwdOp,
    SiluOp,
    SoftcapBwdOp,
    SoftcapOp,
    WeightOp,
    YieldOp,
)
