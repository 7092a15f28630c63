"""A function's body being written: its lines, the names of its values, the block that lines go to."""

from collections.abc import Callable
from dataclasses import dataclass, field

from xdsl.dialects.builtin import IndexType
from xdsl.ir import SSAValue

from ck.backend.llvm.spelling import base_name, type_name
from ck.backend.names import Names
from ck.errors import InternalError


@dataclass
class Declarations:
    """The functions of other modules, and LLVM's own, that have been called so far."""

    signatures: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, name: str, result: str, parameters: str) -> None:
        """Ask for `declare result @name(parameters)`."""
        signature = f"declare {result} @{name}({parameters})"
        known = self.signatures.setdefault(name, signature)
        if known != signature:
            raise InternalError(f"LLVM: @{name} is called in two ways: {known}, {signature}")

    def text(self) -> str:
        """The declarations, in order of first use."""
        return "".join(f"{signature}\n" for signature in self.signatures.values())


class Body:
    """The lines of one function. Names of values, with %, and of blocks share one space."""

    def __init__(self, declarations: Declarations) -> None:
        self.declarations = declarations
        self.label = "entry"
        self._lines: list[str] = []
        self._allocations: list[str] = []
        self._names = Names(["entry"])
        self._spelled: dict[SSAValue, str] = {}

    def text(self) -> str:
        """The lines so far, from the entry block on."""
        return "\n".join(["entry:", *self._allocations, *self._lines])

    def line(self, text: str) -> None:
        """Add an instruction."""
        self._lines.append(f"  {text}")

    def start(self, label: str) -> None:
        """Begin the block `label`."""
        self.label = label
        self._lines += ["", f"{label}:"]

    def later(self) -> Callable[[str], None]:
        """Leave a line here that is written later, by the function returned."""
        place = len(self._lines)
        self._lines.append("")

        def write(text: str) -> None:
            self._lines[place] = f"  {text}"

        return write

    def fresh(self, base: str) -> str:
        """A name that no value or block has yet."""
        return self._names.fresh(base)

    def let(self, base: str, text: str) -> str:
        """Add `%base = text`; returns the name."""
        name = f"%{self.fresh(base)}"
        self.line(f"{name} = {text}")
        return name

    def name(self, value: SSAValue, fallback: str = "") -> str:
        """Give a value its name, by its hint."""
        fallback = fallback or ("i" if isinstance(value.type, IndexType) else "v")
        self._spelled[value] = f"%{self.fresh(base_name(value, fallback))}"
        return self._spelled[value]

    def define(self, value: SSAValue, text: str) -> str:
        """Add the instruction that makes a value; returns the value's name."""
        name = self.name(value)
        self.line(f"{name} = {text}")
        return name

    def allocate(self, buffer: SSAValue, type: str) -> None:
        """Let a buffer be memory of the function's frame, which is laid out at its beginning."""
        self._allocations.append(f"  {self.name(buffer, 'row')} = alloca {type}, align 64")

    def bind(self, value: SSAValue, text: str) -> None:
        """Let a value be what another name or a literal says."""
        self._spelled[value] = text

    def use(self, value: SSAValue) -> str:
        """A value as an operand, without its type."""
        return self._spelled[value]

    def typed(self, value: SSAValue) -> str:
        """A value as an operand, with its type."""
        return f"{type_name(value.type)} {self._spelled[value]}"
