"""A check's failure, under the name that passes and commands know; ck/ir/check executes and compares."""

from ck.ir.check.failure import CheckFailure

__all__ = ["CheckFailure"]
