"""Shrinking a module while it keeps failing: `reduce_module`, and `Reduction`."""

from ck.ir.reduce.search import Reduction, reduce_module

__all__ = ["Reduction", "reduce_module"]
