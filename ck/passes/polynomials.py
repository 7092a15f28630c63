"""exp, tanh, erf, log, sin and cos as chains of basic operations, the same for scalars and for vectors.

Each function takes an `Arithmetic`, which inserts operations, and a value of its type: f32 or a vector of
f32. No libm, no fma, no comparison: a condition is a mask made from a sign bit, so every backend gives the
same bits. NaN gives NaN. Errors are the largest seen against float64 on dense samples, in units of the last
place (ulp) of f32; tests/passes/test_expand_math.py holds them.

The fits of tanh, erf, log, sin and cos are Chebyshev interpolants on the intervals named, rounded to f32.
"""

from collections.abc import Callable, Sequence

from xdsl.builder import Builder
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, VectorType, f32, i32
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

_SIGN = -0x80000000
# Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the low bits.
_ROUND = 12582912.0
_ROUND_BITS = 0x4B400000


Constant = Callable[[FloatAttr | IntegerAttr, Attribute], SSAValue]


class Arithmetic:
    """Basic operations on values of one float type; `constant(value, type)` gives a value in every lane."""

    def __init__(self, builder: Builder, type: Attribute, constant: Constant) -> None:
        self._builder = builder
        self._constant = constant
        self._type = type
        self._known_bits: dict[SSAValue, SSAValue] = {}
        vector = isa(type, VectorType[Attribute])
        self._bits_type: Attribute = VectorType(i32, type.get_shape()) if vector else i32

    def insert(self, op: Operation, hint: str) -> SSAValue:
        result = self._builder.insert(op).results[0]
        result.name_hint = hint
        return result

    def number(self, value: float) -> SSAValue:
        """A float constant, in every lane."""
        return self._constant(FloatAttr(value, f32), self._type)

    def integer(self, value: int) -> SSAValue:
        """An i32 constant, in every lane."""
        return self._constant(IntegerAttr(value, i32), self._bits_type)

    def add(self, a: SSAValue, b: SSAValue, hint: str = "sum") -> SSAValue:
        return self.insert(arith.AddfOp(a, b), hint)

    def sub(self, a: SSAValue, b: SSAValue, hint: str = "difference") -> SSAValue:
        return self.insert(arith.SubfOp(a, b), hint)

    def mul(self, a: SSAValue, b: SSAValue, hint: str = "product") -> SSAValue:
        return self.insert(arith.MulfOp(a, b), hint)

    def div(self, a: SSAValue, b: SSAValue, hint: str = "quotient") -> SSAValue:
        return self.insert(arith.DivfOp(a, b), hint)

    def clamp(self, x: SSAValue, low: float, high: float, hint: str) -> SSAValue:
        """x limited to [low, high]; NaN stays NaN."""
        raised = self.insert(arith.MaximumfOp(x, self.number(low)), hint)
        return self.insert(arith.MinimumfOp(raised, self.number(high)), hint)

    def horner(self, x: SSAValue, coefficients: Sequence[float]) -> SSAValue:
        """The polynomial with these coefficients, highest power first."""
        value = self.number(coefficients[0])
        for coefficient in coefficients[1:]:
            value = self.add(self.mul(value, x, "p"), self.number(coefficient), "p")
        return value

    def bits(self, x: SSAValue) -> SSAValue:
        """The bits of a float as i32."""
        if x not in self._known_bits:
            self._known_bits[x] = self.insert(arith.BitcastOp(x, self._bits_type), "bits")
        return self._known_bits[x]

    def float_of(self, bits: SSAValue, hint: str) -> SSAValue:
        """The float with these bits."""
        value = self.insert(arith.BitcastOp(bits, self._type), hint)
        self._known_bits[value] = bits
        return value

    def add_bits(self, a: SSAValue, b: SSAValue, hint: str = "bits") -> SSAValue:
        return self.insert(arith.AddiOp(a, b), hint)

    def sub_bits(self, a: SSAValue, b: SSAValue, hint: str = "bits") -> SSAValue:
        return self.insert(arith.SubiOp(a, b), hint)

    def and_bits(self, a: SSAValue, b: SSAValue, hint: str = "bits") -> SSAValue:
        return self.insert(arith.AndIOp(a, b), hint)

    def or_bits(self, a: SSAValue, b: SSAValue, hint: str = "bits") -> SSAValue:
        return self.insert(arith.OrIOp(a, b), hint)

    def xor_bits(self, a: SSAValue, b: SSAValue, hint: str = "bits") -> SSAValue:
        return self.insert(arith.XOrIOp(a, b), hint)

    def shift_left(self, a: SSAValue, count: int, hint: str = "bits") -> SSAValue:
        return self.insert(arith.ShLIOp(a, self.integer(count)), hint)

    def shift_right(self, a: SSAValue, count: int, hint: str = "bits") -> SSAValue:
        """Shift that copies the sign."""
        return self.insert(arith.ShRSIOp(a, self.integer(count)), hint)

    def negative(self, x: SSAValue, hint: str) -> SSAValue:
        """Mask of all ones where x has its sign bit set, else 0. For NaN it may be either."""
        return self.shift_right(self.bits(x), 31, hint)

    def magnitude(self, x: SSAValue) -> SSAValue:
        """|x|, NaN included."""
        return self.float_of(self.and_bits(self.bits(x), self.integer(0x7FFFFFFF)), "magnitude")

    def choose(self, mask: SSAValue, a: SSAValue, b: SSAValue, hint: str) -> SSAValue:
        """a where the mask is ones, b where it is 0."""
        differing = self.xor_bits(self.bits(a), self.bits(b))
        return self.float_of(self.xor_bits(self.bits(b), self.and_bits(differing, mask)), hint)

    def power_of_two(self, exponent: SSAValue) -> SSAValue:
        """The bits of 2^exponent, for an exponent in [-126, 127]."""
        return self.shift_left(self.add_bits(exponent, self.integer(127)), 23, "scale")


def exp(a: Arithmetic, x: SSAValue) -> SSAValue:
    """e^x within 1 ulp: x > 88.72283 gives inf, x < -87.33654 gives 0.

    x = n ln 2 + r, |r| <= ln 2 / 2; a polynomial in r (Cephes, expf) times 2^n in two halves, for n = 128.
    """
    low = -87.33654
    x = a.clamp(x, -88.0, 89.0, "x")
    shifted = a.add(a.mul(x, a.number(1.44269504)), a.number(_ROUND), "shifted")
    n = a.sub(shifted, a.number(_ROUND), "n")
    r = a.sub(x, a.mul(n, a.number(0.693359375)), "r")
    r = a.sub(r, a.mul(n, a.number(-2.12194440e-4)), "r")
    coefficients = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1)
    p = a.horner(r, (*coefficients, 5.0000001201e-1))
    y = a.add(a.add(a.mul(p, a.mul(r, r)), r), a.number(1.0), "y")
    k = a.sub_bits(a.bits(shifted), a.integer(_ROUND_BITS), "k")
    half = a.shift_right(k, 1, "half")
    kept = a.xor_bits(a.negative(a.sub(x, a.number(low)), "below"), a.integer(-1), "kept")
    first = a.float_of(a.power_of_two(half), "scale")
    second = a.float_of(a.and_bits(a.power_of_two(a.sub_bits(k, half)), kept), "scale")
    return a.mul(a.mul(y, first), second, "exp")


def tanh(a: Arithmetic, x: SSAValue) -> SSAValue:
    """tanh x within 1.5 ulp: an odd polynomial below 0.625, 1 - 2 / (e^(2|x|) + 1) above."""
    magnitude = a.magnitude(x)
    z = a.mul(x, x, "z")
    p = a.horner(
        z, (-6.104947999119759e-3, 2.1003641188144684e-2, -5.385249853134155e-2, 0.13332782685756683)
    )
    p = a.add(a.mul(p, z), a.number(-0.333333283662796), "p")
    near = a.add(a.mul(a.mul(p, z), x), x, "near")
    e = exp(a, a.add(magnitude, magnitude))
    far = a.sub(a.number(1.0), a.div(a.number(2.0), a.add(e, a.number(1.0))), "far")
    small = a.negative(a.sub(magnitude, a.number(0.625)), "small")
    return _with_sign(a, a.choose(small, near, far, "value"), x, "tanh")


def _with_sign(a: Arithmetic, value: SSAValue, x: SSAValue, hint: str) -> SSAValue:
    """`value`, which is positive or has the sign of x, with the sign of x; -0 keeps its sign."""
    sign = a.and_bits(a.bits(x), a.integer(_SIGN), "sign")
    return a.float_of(a.or_bits(a.bits(value), sign), hint)


def erf(a: Arithmetic, x: SSAValue) -> SSAValue:
    """erf x within 2.5 ulp: an odd polynomial below 1; 1 - e^-q(|x|) above, q fits -log erfc on [1, 4]."""
    magnitude = a.magnitude(x)
    z = a.mul(x, x, "z")
    near_fit = (-5.654105916619301e-4, 4.923277534544468e-3, -2.6716385036706924e-2, 0.11280364543199539)
    p = a.horner(z, (*near_fit, -0.37612348794937134, 1.1283791065216064))
    near = a.mul(x, p, "near")
    far_fit = (1.330939085164573e-5, -3.175720339640975e-4, 3.4368676133453846e-3, -2.2621985524892807e-2)
    far_rest = (0.10331898182630539, 0.6390933394432068, 1.125925898551941, 7.569686276838183e-4)
    limited = a.clamp(magnitude, 0.0, 4.0, "limited")
    q = a.horner(limited, (*far_fit, *far_rest))
    far = a.sub(a.number(1.0), exp(a, a.sub(a.number(0.0), q)), "far")
    small = a.negative(a.sub(magnitude, a.number(1.0)), "small")
    return _with_sign(a, a.choose(small, near, far, "value"), x, "erf")


def log(a: Arithmetic, x: SSAValue) -> SSAValue:
    """Natural logarithm within 1 ulp, denormals included; 0 gives -inf, less gives NaN, inf gives inf.

    x = m 2^e with m in [sqrt 1/2, sqrt 2); log m = t - t^2/2 + t^3 P(t) with t = m - 1.
    """
    bits = a.bits(x)
    denormal = a.shift_right(a.sub_bits(bits, a.integer(0x00800000)), 31, "denormal")
    scaled = a.choose(denormal, a.mul(x, a.number(8388608.0)), x, "scaled")
    # Taking off the bits of sqrt 1/2 makes the exponent that of x / m.
    offset = a.sub_bits(a.bits(scaled), a.integer(0x3F3504F3), "offset")
    e = a.shift_right(offset, 23, "e")
    m = a.float_of(a.sub_bits(a.bits(scaled), a.shift_left(e, 23)), "m")
    e = a.sub_bits(e, a.and_bits(denormal, a.integer(23)), "e")
    # e is small: in the low bits of 1.5 * 2^23 it is a float without a conversion.
    count = a.sub(a.float_of(a.add_bits(e, a.integer(_ROUND_BITS)), "shifted"), a.number(_ROUND), "count")
    t = a.sub(m, a.number(1.0), "t")
    z = a.mul(t, t, "z")
    fit = (-8.101558685302734e-2, 0.12712307274341583, -0.12972238659858704, 0.14202174544334412)
    p = a.horner(
        t, (*fit, -0.16642247140407562, 0.20001468062400818, -0.25000298023223877, 0.333333283662796)
    )
    tail = a.add(a.mul(a.mul(p, t), z), a.mul(count, a.number(-2.12194440e-4)), "tail")
    value = a.add(a.sub(tail, a.mul(a.number(0.5), z)), t, "value")
    value = a.add(value, a.mul(count, a.number(0.693359375)), "value")
    return _log_limits(a, x, bits, value)


def _log_limits(a: Arithmetic, x: SSAValue, bits: SSAValue, value: SSAValue) -> SSAValue:
    not_finite = a.shift_right(a.sub_bits(a.integer(0x7F7FFFFF), bits), 31, "not_finite")
    value = a.choose(not_finite, x, value, "value")
    value = a.choose(a.shift_right(bits, 31, "negative"), a.number(float("nan")), value, "value")
    magnitude = a.and_bits(bits, a.integer(0x7FFFFFFF))
    zero = a.shift_right(a.sub_bits(magnitude, a.integer(1)), 31, "zero")
    return a.choose(zero, a.number(float("-inf")), value, "log")


def _quarter_turns(a: Arithmetic, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    """x = q pi/2 + r with |r| <= pi/4: q as i32 bits, and r.

    pi/2 is split in three (Cody and Waite): the first two parts have 8 bits each, so their products with q,
    of up to 16 bits, are exact, and so are the first two subtractions.
    """
    shifted = a.add(a.mul(x, a.number(0.6366197723675814)), a.number(_ROUND), "shifted")
    q = a.sub(shifted, a.number(_ROUND), "q")
    r = a.sub(x, a.mul(q, a.number(1.5703125)), "r")
    r = a.sub(r, a.mul(q, a.number(4.825592041015625e-4)), "r")
    r = a.sub(r, a.mul(q, a.number(1.2675908465098473e-6)), "r")
    return a.sub_bits(a.bits(shifted), a.integer(_ROUND_BITS), "turns"), r


def _sine_of_turns(a: Arithmetic, turns: SSAValue, r: SSAValue, hint: str) -> SSAValue:
    """sin(r + turns pi/2)."""
    z = a.mul(r, r, "z")
    p = a.horner(z, (-1.95815009647049e-4, 8.332718163728714e-3, -0.166666641831398))
    sine = a.add(a.mul(a.mul(p, z), r), r, "sine")
    p = a.horner(z, (2.454186869726982e-5, -1.388827571645379e-3, 4.16666641831398e-2))
    cosine = a.sub(a.mul(p, a.mul(z, z)), a.mul(a.number(0.5), z), "cosine")
    cosine = a.add(cosine, a.number(1.0), "cosine")
    odd = a.shift_right(a.shift_left(turns, 31), 31, "odd")
    value = a.choose(odd, cosine, sine, "value")
    sign = a.shift_left(a.and_bits(turns, a.integer(2)), 30, "sign")
    return a.float_of(a.xor_bits(a.bits(value), sign), hint)


def sin(a: Arithmetic, x: SSAValue) -> SSAValue:
    """sin x within 1e-7 for |x| <= 1e5, meaningless beyond 5e6; infinities give NaN."""
    turns, r = _quarter_turns(a, x)
    return _sine_of_turns(a, turns, r, "sin")


def cos(a: Arithmetic, x: SSAValue) -> SSAValue:
    """cos x within 1e-7 for |x| <= 1e5, meaningless beyond 5e6; infinities give NaN."""
    turns, r = _quarter_turns(a, x)
    return _sine_of_turns(a, a.add_bits(turns, a.integer(1), "turns"), r, "cos")


def rsqrt(a: Arithmetic, x: SSAValue) -> SSAValue:
    """1 / sqrt x, each correctly rounded: within 1.5 ulp."""
    root = a.insert(math.SqrtOp(x), "root")
    return a.div(a.number(1.0), root, "rsqrt")
