"""Row-wise kernels as IR text, in the form the compiler generates them: the subjects of the backends' tests.

Each function is `@name_<columns>(x, y, begin, end)` (rms_norm takes w [D] after x) over rows [begin, end)
of buffers [ROWS, columns]. A reduction has 4 accumulators of 16 lanes, element i in lane i mod 64, a masked
tail, the join (0 + 1) + (2 + 3), then halves of 8, 4, 2 and 1 lanes.
"""

from collections.abc import Callable

ROWS = 9
COLUMNS = (1, 15, 16, 17, 63, 64, 65, 576, 1000)

_V = "vector<16xf32>"


class _Text:
    def __init__(self, name: str, columns: int, weighted: bool) -> None:
        self.columns = columns
        self.buffer = f"memref<{ROWS}x{columns}xf32>"
        self.weight = f"memref<{columns}xf32>"
        w = f"%w: {self.weight}, " if weighted else ""
        self.lines = [
            f"func.func @{name}_{columns}(%x: {self.buffer}, {w}%y: {self.buffer} {{ck.restrict}},",
            "    %begin: index, %end: index) {",
        ]
        self.names = 0
        for constant in sorted({0, 1, 16, 32, 48, 64, columns % 16, *range(0, columns + 1, 16), columns}):
            self.lines.append(f"%c{constant} = arith.constant {constant} : index")
        for constant, text in (("zero", "0.0"), ("one", "1.0"), ("low", "0xff800000"), ("eps", "1.0e-05")):
            self.lines.append(f"%{constant} = arith.constant {text} : f32")
        self.lines.append(f"%width = arith.constant {columns:.1f} : f32")
        for constant in ("zero", "low"):
            self.lines.append(f"%v{constant} = vector.broadcast %{constant} : f32 to {_V}")
        self.lines.append(f"%mask = vector.create_mask %c{columns % 16} : vector<16xi1>")
        self.lines.append("scf.for %t = %begin to %end step %c1 {")

    def let(self, hint: str, text: str) -> str:
        """`%name = text`; returns the name."""
        self.names += 1
        name = f"%{hint}_{self.names}"
        self.lines.append(f"{name} = {text}")
        return name

    def unary(self, op: str, a: str, type: str = _V) -> str:
        return self.let(op.split(".")[1], f"{op} {a} : {type}")

    def binary(self, op: str, a: str, b: str, type: str = _V) -> str:
        return self.let(op.split(".")[1], f"{op} {a}, {b} : {type}")

    def splat(self, a: str) -> str:
        return self.let("all", f"vector.broadcast {a} : f32 to {_V}")

    def load(self, buffer: str, at: str, live: int, rest: str = "zero") -> str:
        place, type = (
            (f"{buffer}[{at}]", self.weight) if buffer == "%w" else (f"{buffer}[%t, {at}]", self.buffer)
        )
        if live == 16:
            return self.let("v", f"vector.load {place} : {type}, {_V}")
        types = f"{type}, vector<16xi1>, {_V} into {_V}"
        return self.let("v", f"vector.maskedload {place}, %mask, %v{rest} : {types}")

    def store(self, value: str, at: str, live: int) -> None:
        if live == 16:
            self.lines.append(f"vector.store {value}, %y[%t, {at}] : {self.buffer}, {_V}")
        else:
            types = f"{self.buffer}, vector<16xi1>, {_V}"
            self.lines.append(f"vector.maskedstore %y[%t, {at}], %mask, {value} : {types}")

    def columns_loop(self, body: Callable[[str, int], None]) -> None:
        """`body(index, live)` for every 16 columns."""
        full = self.columns - self.columns % 16
        if full:
            self.lines.append(f"scf.for %i = %c0 to %c{full} step %c16 {{")
            body("%i", 16)
            self.lines.append("}")
        if full < self.columns:
            body(f"%c{full}", self.columns - full)

    def reduce(self, op: str, start: str, body: Callable[[str, int], str]) -> str:
        """Fold `body(index, live)` over all columns: the name of an f32."""
        full = self.columns - self.columns % 64
        accumulators = [start] * 4
        if full:
            results = [f"%s_{self.names + k + 1}" for k in range(4)]
            arguments = [f"%a_{self.names + k + 1}" for k in range(4)]
            self.names += 4
            init = ", ".join(f"{a} = {start}" for a in arguments)
            head = f"{', '.join(results)} = scf.for %i = %c0 to %c{full} step %c64"
            self.lines.append(f"{head} iter_args({init}) -> ({', '.join([_V] * 4)}) {{")
            folded = []
            for k, argument in enumerate(arguments):
                at = self.binary("arith.addi", "%i", f"%c{16 * k}", "index") if k else "%i"
                folded.append(self.binary(op, argument, body(at, 16)))
            self.lines.append(f"scf.yield {', '.join(folded)} : {', '.join([_V] * 4)}")
            self.lines.append("}")
            accumulators = results
        for k, begin in enumerate(range(full, self.columns, 16)):
            live = min(16, self.columns - begin)
            accumulators[k] = self.binary(op, accumulators[k], body(f"%c{begin}", live))
        return self.join(op, accumulators)

    def join(self, op: str, accumulators: list[str]) -> str:
        first = self.binary(op, accumulators[0], accumulators[1])
        value = self.binary(op, first, self.binary(op, accumulators[2], accumulators[3]))
        for lanes in (8, 4, 2):
            type = f"vector<{2 * lanes}xf32>"
            halves = [
                self.let("half", f"vector.shuffle {value}, {value} {list(half)} : {type}, {type}")
                for half in (range(lanes), range(lanes, 2 * lanes))
            ]
            value = self.binary(op, *halves, f"vector<{lanes}xf32>")
        pair = [self.let("lane", f"vector.extract {value}[{k}] : f32 from vector<2xf32>") for k in (0, 1)]
        return self.binary(op, *pair, "f32")

    def end(self) -> str:
        return "\n".join([*self.lines, "}", "func.return", "}"])


def sum_rows(columns: int) -> str:
    """y[t, :] = sum of x[t, :]."""
    k = _Text("sum_rows", columns, weighted=False)
    total = k.splat(k.reduce("arith.addf", "%vzero", lambda at, live: k.load("%x", at, live)))
    k.columns_loop(lambda at, live: k.store(total, at, live))
    return k.end()


def exp_rows(columns: int) -> str:
    """y = exp(x)."""
    k = _Text("exp_rows", columns, weighted=False)
    k.columns_loop(lambda at, live: k.store(k.unary("math.exp", k.load("%x", at, live)), at, live))
    return k.end()


def rms_norm(columns: int) -> str:
    """y[t, d] = x[t, d] / sqrt(mean_d x^2 + eps) * w[d]."""
    k = _Text("rms_norm", columns, weighted=True)

    def square(at: str, live: int) -> str:
        x = k.load("%x", at, live)
        return k.binary("arith.mulf", x, x)

    mean = k.binary("arith.divf", k.reduce("arith.addf", "%vzero", square), "%width", "f32")
    r = k.splat(k.unary("math.rsqrt", k.binary("arith.addf", mean, "%eps", "f32"), "f32"))

    def scale(at: str, live: int) -> None:
        x = k.binary("arith.mulf", k.load("%x", at, live), r)
        k.store(k.binary("arith.mulf", x, k.load("%w", at, live)), at, live)

    k.columns_loop(scale)
    return k.end()


def softmax(columns: int) -> str:
    """y[t, :] = softmax of x[t, :]."""
    k = _Text("softmax", columns, weighted=False)
    top = k.splat(k.reduce("arith.maximumf", "%vlow", lambda at, live: k.load("%x", at, live, "low")))

    def weight(at: str, live: int) -> str:
        shifted = k.binary("arith.subf", k.load("%x", at, live, "low"), top)
        e = k.unary("math.exp", shifted)
        k.store(e, at, live)
        lanes = [lane if lane < live else 16 + lane for lane in range(16)]
        return e if live == 16 else k.let("kept", f"vector.shuffle {e}, %vzero {lanes} : {_V}, {_V}")

    total = k.reduce("arith.addf", "%vzero", weight)
    scale = k.splat(k.binary("arith.divf", "%one", total, "f32"))

    def finish(at: str, live: int) -> None:
        place = f"%y[%t, {at}]"
        if live == 16:
            e = k.let("e", f"vector.load {place} : {k.buffer}, {_V}")
        else:
            types = f"{k.buffer}, vector<16xi1>, {_V} into {_V}"
            e = k.let("e", f"vector.maskedload {place}, %mask, %vzero : {types}")
        k.store(k.binary("arith.mulf", e, scale), at, live)

    k.columns_loop(finish)
    return k.end()


KERNELS = {"sum_rows": sum_rows, "exp_rows": exp_rows, "rms_norm": rms_norm, "softmax": softmax}
