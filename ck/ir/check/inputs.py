"""Numbers for weights, states and arguments, drawn from their names and types: every form of a program, and
every backend, gets the same.

A matrix is drawn so that products keep the size of a row, a gain around 1, a gradient or a moment small and
different from 0, so that what is overwritten instead of added shows. Rows past the live ones hold NaN, and
ids that do not exist.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from xdsl.dialects.builtin import IndexType, IntegerType, MemRefType, ModuleOp, TensorType
from xdsl.ir import Attribute, Operation, SSAValue

from ck.ir.check.cases import FEW, Call, Case, is_live_count
from ck.ir.check.states import multiplied, read_by_id, weights_of
from ck.ir.check.tier import Tier
from ck.ir.evaluate import Kept, empty_cache
from ck.ir.op import Array, Product, to_bf16
from ck.ir.ops.adamw import SECOND_MOMENT
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.global_norm import HYPER
from ck.ir.rt import ops as rt
from ck.ir.types import CacheType, KvType, Q8Type, WeightType, is_buffer, is_tensor, shape

Draw = Callable[[str, Attribute], Array]
JUNK = 1 << 30
# What `hyper` holds where it counts as the last of several updates: every number differs from 0 and 1, and
# means something for either optimizer (ck/ir/ops/adamw.py, ck/ir/ops/sgd.py).
HYPER_VALUES = (0.97, 0.1, 0.95, 0.05, 1e-8, 0.01, 0.5, 0.5)
# Positions of a drawn cache; longer ones repeat them, a prime number so that no block is like another.
PERIOD = 251
# Kernels whose names end in the type that their factors have.
_PRODUCTS = ("ck_matmul_", "ck_cross_entropy_")
# Rows that odd numbers fill, in this order; after them come ordinary ones.
HALVES, TIES, TINY, HUGE = 0.5, 1.25, 1e-40, 2e19


def draw_weight(name: str, of: Attribute) -> Array:
    """The weight `name` as f32, of values that its storage type holds."""
    sizes = shape(of)
    z = generator(name, sizes).standard_normal(sizes, np.float32)
    state, dot, _ = name.partition(".")
    if dot and state in ("grad", "adam_m", "momentum", SECOND_MOMENT):
        return (0.1 * z) ** 2 if state == SECOND_MOMENT else np.float32(0.1) * z
    values = z / np.float32(np.sqrt(sizes[-1])) if len(sizes) == 2 else 1 + np.float32(0.2) * z
    return rounded(values, of)


def rounded(values: Array, of: Attribute) -> Array:
    """f32 values as a float storage type holds them."""
    storage = of.storage.data if isinstance(of, WeightType) else "f32"
    if storage == "f16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    return to_bf16(values) if storage == "bf16" else values


def generator(name: str, sizes: tuple[int, ...], seed: int = 0) -> np.random.Generator:
    """Random numbers that follow from a name, sizes and a seed alone."""
    return np.random.default_rng([zlib.crc32(name.encode()), *sizes, seed])


@dataclass
class Inputs:
    """What the functions of a module, and of every later form of it, are run on.

    draw   makes a weight; given  weights that are known
    """

    module: ModuleOp
    draw: Draw = draw_weight
    given: Mapping[str, Array] = field(default_factory=dict[str, Array])

    def __post_init__(self) -> None:
        tables = read_by_id(self.module)
        self.n_vocab = min((shape(of)[0] for of in tables.values()), default=1)
        self._tables = {name for name, of in tables.items() if not _is_quantized(of)}
        # A NaN in a table that is multiplied with, or that a loss is made of, would be everywhere.
        blocks = (block for op in self.module.walk() for region in op.regions for block in region.blocks)
        names = {argument.name_hint for block in blocks for argument in block.args}
        self._only_tables = set[str]() if "targets" in names else self._tables - multiplied(self.module)
        self._types: dict[str, Attribute] = {}
        self._weights: dict[tuple[str, bool], Array] = {}
        self._caches: dict[str, Kept] = {}
        self._keeps_halves = any(map(_is_half, self.module.walk()))
        # Whether some form so far rounds factors of products to bf16.
        self.rounded = False
        # And whether one quantises rows to 8 bits.
        self.coarse = False
        self.learn(self.module)

    def learn(self, module: ModuleOp) -> None:
        """Take in the weights that `module` has and earlier forms had not: the states of an optimizer."""
        self._types = {**weights_of(module), **self._types}
        self.rounded = self.rounded or any(map(_rounds_factors, module.walk()))
        self.coarse = self.coarse or any(map(_is_coarse, module.walk()))

    def where(self, tier: Tier) -> Tier:
        """What `tier` promises of this module."""
        return tier.where(quantized=self.quantized, rounded=self.rounded, coarse=self.coarse)

    @property
    def quantized(self) -> bool:
        """Whether products take quantised rows, once layouts are assigned, or keys and values are f16."""
        return self._keeps_halves or any(_is_quantized(of) for of in self._types.values())

    def type_of(self, name: str) -> Attribute:
        """The type under which the first form that has the weight has it."""
        return self._types[name]

    def altered(self, name: str, case: Case) -> bool:
        """Whether the weight has other numbers in this case than in others."""
        return case.special and name in self._tables

    def weight(self, name: str, case: Case) -> Array:
        """The weight `name`, not to be written; raises KeyError for a name that no form of the module has."""
        special = self.altered(name, case)
        if (name, special) not in self._weights:
            value = self.given[name] if name in self.given else self.draw(name, self._types[name])
            value = np.array(value, np.float32)
            if special:
                # The rows that the case's ids stand for.
                sprinkle(value[max(0, self.n_vocab - FEW) : self.n_vocab], name not in self._only_tables)
                value = rounded(value, self._types[name])
            value.flags.writeable = False
            self._weights[name, special] = value
        return self._weights[name, special]

    def cache(self, name: str, of: CacheType, case: Case) -> Kept:
        """A cache before the first call."""
        if not case.filled:
            return empty_cache(of)
        if name not in self._caches:
            self._caches[name] = _draw_cache(name, of)
        kept = self._caches[name]
        return (kept[0].copy(), kept[1].copy()) if isinstance(kept, tuple) else kept.copy()

    def argument(self, argument: SSAValue, call: Call, case: Case, capacity: int) -> Array | int:
        """A value for an argument of a function whose first argument has `capacity` rows."""
        name, of = argument.name_hint or f"argument {getattr(argument, 'index', 0)}", argument.type
        if isinstance(of, IndexType):
            return call.n if is_live_count(argument) else call.pos
        assert is_tensor(of) or is_buffer(of)
        rng = generator(f"{case} {name}", shape(of), call.pos)
        live = min(shape(of)[0], call.n * max(1, shape(of)[0] // capacity))
        if isinstance(of.element_type, IntegerType):
            values = self._whole_numbers(name, live, call, case, rng)
            made: Array = np.full(shape(of), JUNK, np.int32)
        else:
            values = _real_numbers(name, of, live, call, case, rng)
            made = np.full(shape(of), np.nan, np.float32)
        if values.shape == made.shape and (len(shape(of)) == 1 and values.dtype != np.int32):
            return values
        made[:live] = values[:live]
        return made

    def _whole_numbers(self, name: str, live: int, call: Call, case: Case, rng: np.random.Generator) -> Array:
        if name == "starts":
            return starts(live, case)
        ids = rng.integers(0, self.n_vocab, live).astype(np.int32)
        if case.special:
            ids = (np.arange(self.n_vocab - live, self.n_vocab) % self.n_vocab).astype(np.int32)
        if name == "targets" and live > 1:
            # The last row of a document has nothing to be held against.
            ends: Array = np.diff(starts(live, case), append=JUNK) > 0
            ids[ends] = -1
        return ids


def _draw_cache(name: str, of: CacheType) -> Kept:
    rng = generator(name, shape(of))
    if not isinstance(of, KvType):
        return rng.standard_normal(shape(of), np.float32)
    dtype = np.float16 if of.dtype_name == "f16" else np.float32
    drawn = (rng.standard_normal((shape(of)[0], PERIOD, shape(of)[2]), np.float32) for _ in range(2))
    repeats = (1, -(-shape(of)[1] // PERIOD), 1)
    keys, values = (np.tile(part.astype(dtype), repeats)[:, : shape(of)[1]] for part in drawn)
    return keys, values


def starts(n: int, case: Case) -> Array:
    """The first row of each row's document: one document, or several, one of them of a single row."""
    if case.name != "ragged" or n < 4:
        return np.zeros(n, np.int32)
    lengths = (n // 2, 1, n - n // 2 - 1)
    return np.repeat(np.cumsum((0, *lengths[:-1])), lengths).astype(np.int32)


def _real_numbers(
    name: str,
    of: TensorType[Attribute] | MemRefType[Attribute],
    live: int,
    call: Call,
    case: Case,
    rng: np.random.Generator,
) -> Array:
    sizes = shape(of)
    if sizes == (HYPER,):
        return np.array(HYPER_VALUES, np.float32)
    if name == "positions" and sizes[1:] == (1,):
        return (np.arange(live) - starts(live, case)).astype(np.float32)[:, None]
    values = rng.standard_normal(sizes, np.float32)
    if len(sizes) == 1:
        return np.abs(values)
    if case.special:
        sprinkle(values[:live], finite=name.startswith("d_"))
    return values


def sprinkle(rows: Array, finite: bool = False) -> None:
    """Put odd numbers into rows: one kind a row, those that are not finite into the last two.

    A row of its own each, and last, so that what they spread to can be told from what they must not reach.
    """
    n_columns: int = rows.shape[1]
    columns = np.arange(n_columns)
    signs = (1 - 2 * (columns % 2)).astype(np.float32)
    kinds: tuple[Array, ...] = (0 * signs, TINY * signs, TIES + 0 * columns, HALVES + columns % 5)
    n_finite = len(rows) if finite else max(0, len(rows) - 2)
    for row, kind in zip(rows[:n_finite], kinds, strict=False):
        row[:] = kind
    if finite or not len(rows):
        return
    middle = rows.shape[1] // 2
    rows[-1, middle] = np.nan
    if len(rows) > 1:
        rows[-2, middle] = np.inf
    if len(rows) > 2 + len(kinds):
        rows[len(kinds)] *= np.float32(HUGE)


def _rounds_factors(op: Operation) -> bool:
    if isinstance(op, rt.CallOp):
        return op.symbol_name.startswith(_PRODUCTS) and op.symbol_name.endswith("_bf16")
    return isinstance(op, Product) and op.compute == "bf16"


def _is_coarse(op: Operation) -> bool:
    if isinstance(op, rt.CallOp):
        return op.symbol_name == "ck_quantize_rows_q8"
    return any(isinstance(result.type, Q8Type) for result in op.results)


def _is_half(op: Operation) -> bool:
    if not isinstance(op, CacheOp | rt.CacheOp):
        return False
    of = op.results[0].type
    return isinstance(of, KvType) and of.dtype_name == "f16"


def _is_quantized(of: Attribute) -> bool:
    return isinstance(of, WeightType) and of.row.quantized
