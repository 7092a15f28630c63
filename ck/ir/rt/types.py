"""The `rt` dialect has no types of its own: buffers are memrefs, weights and caches keep their `ck` types."""

from xdsl.ir import ParametrizedAttribute

RT_TYPES: tuple[type[ParametrizedAttribute], ...] = ()
