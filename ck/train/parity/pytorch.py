"""PyTorch, imported on use, and the arithmetic that a model computes in.

f32    as the model is
f64    parameters and everything computed from them in f64: what the model casts to f32 on its way (norms,
       softmax) stays f64, and cosines and sines of the f32 angles are taken in f64
bf16   f32, the factors of each linear layer's three products rounded to bf16, the sums in f32: what ck's
       `--dtype bf16` computes
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any, Literal

from ck.errors import MachineError

Arithmetic = Literal["f32", "f64", "bf16"]


def pytorch() -> Any:
    """The module torch. Raises MachineError when it or transformers is not installed."""
    try:
        import_module("transformers")
        return import_module("torch")
    except ImportError as error:
        raise MachineError(
            f"parity: needs torch and transformers, {error.name} is not installed; run: "
            "pip install 'ck-engine[train]'"
        ) from error


@contextmanager
def torch_threads(n: int) -> Generator[None]:
    """Let PyTorch use `n` threads in the block."""
    torch = pytorch()
    before: int = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def computing_in(arithmetic: Arithmetic) -> Any:
    """A context in which a model computes as `arithmetic` says; its parameters must be of that width."""
    if arithmetic == "f32":
        return nullcontext()
    torch = pytorch()
    mode: Any = torch.overrides.TorchFunctionMode
    rule = {"f64": _wide, "bf16": _rounded_products}[arithmetic]

    def run(self: Any, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return rule(torch, function, list(args), dict(kwargs or {}))

    return type("Computing", (mode,), {"__torch_function__": run})()


def _wide(torch: Any, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    first: Any = args[0] if args else None
    if function in (torch.Tensor.cos, torch.Tensor.sin, torch.cos, torch.sin):
        return function(first.double())
    if isinstance(first, torch.Tensor) and first.dtype == torch.float64:
        if function is torch.Tensor.float:
            return first
        # Tensor.to(torch.float32), and softmax(x, dtype=torch.float32).
        args = [torch.float64 if arg is torch.float32 else arg for arg in args]
        if kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
    return function(*args, **kwargs)


def _rounded_products(torch: Any, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if function is not torch.nn.functional.linear:
        return function(*args, **kwargs)
    x, w, *bias = args
    y = _rounded_linear(torch).apply(x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[0])
    return y if not bias or bias[0] is None else y + bias[0]


def _rounded_linear(torch: Any) -> Any:
    """The product and its gradient, each factor rounded to bf16."""

    def bf16(x: Any) -> Any:
        return x.to(torch.bfloat16).to(torch.float32)

    def forward(ctx: Any, x: Any, w: Any) -> Any:
        x, w = bf16(x), bf16(w)
        ctx.save_for_backward(x, w)
        return x @ w.T

    def backward(ctx: Any, dy: Any) -> Any:
        x, w = ctx.saved_tensors
        dy = bf16(dy)
        return dy @ w, dy.T @ x

    methods: Mapping[str, Any] = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("RoundedLinear", (torch.autograd.Function,), dict(methods))
