"""Numbers that depend on noise, as expressions of our own: no Pyomo, plain data, exact.

A coefficient is ``number + sum_i linear[i] * noise_i + code``. What is affine in the noise is kept
as numbers; only a product of noises, or a function of them, becomes code: numbers, positions of
noise parameters and operations, in postfix order.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sddp.arrays import Floats

# A float is a number, an int the position of a noise parameter, a str an operation.
Token = float | int | str
Code = tuple[Token, ...]


BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "*": operator.mul,
    "/": np.divide,
    "**": np.power,
    "max": np.maximum,
    "min": np.minimum,
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
}
UNARY: Mapping[str, Callable[[Any], Any]] = {
    "abs": np.abs,
    "exp": np.exp,
    "log": np.log,
    "log10": np.log10,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "floor": np.floor,
}


@dataclass(frozen=True)
class Coefficient:
    """A number that depends on noise.

    Attributes
    ----------
    number : float
    linear : mapping from position of a noise parameter to its factor
    code : tuple
        What is not affine, added to the rest; empty where there is nothing.
    """

    number: float = 0.0
    linear: Mapping[int, float] = field(default_factory=dict)
    code: Code = ()

    def as_code(self) -> Code:
        """The whole coefficient in postfix order."""
        parts: list[Code] = []
        if self.number or not (self.linear or self.code):
            parts.append((self.number,))
        for position, factor in self.linear.items():
            parts.append((position,) if factor == 1.0 else (factor, position, "*"))
        if self.code:
            parts.append(self.code)
        return (*parts[0], *(token for part in parts[1:] for token in (*part, "+")))


Value = float | Coefficient


def noise(position: int) -> Coefficient:
    """The noise parameter at a position."""
    return Coefficient(0.0, {position: 1.0})


def code_of(value: Value) -> Code:
    """A value in postfix order."""
    return value.as_code() if isinstance(value, Coefficient) else (value,)


def add(a: Value, b: Value) -> Value:
    """``a + b``."""
    if not isinstance(a, Coefficient):
        if not isinstance(b, Coefficient):
            return a + b
        a, b = b, a
    if not isinstance(b, Coefficient):
        return Coefficient(a.number + b, a.linear, a.code)
    linear = dict(a.linear)
    for position, factor in b.linear.items():
        linear[position] = linear.get(position, 0.0) + factor
    code = (*a.code, *b.code, "+") if a.code and b.code else a.code or b.code
    return Coefficient(a.number + b.number, linear, code)


def multiply(a: Value, b: Value) -> Value:
    """``a * b``."""
    if not isinstance(a, Coefficient):
        if not isinstance(b, Coefficient):
            return a * b
        a, b = b, a
    if not isinstance(b, Coefficient):
        return _scaled(a, b) if b else 0.0
    return Coefficient(code=(*a.as_code(), *b.as_code(), "*"))


def divide(a: Value, b: Value) -> Value:
    """``a / b``; raises `ZeroDivisionError` where `b` is the number 0."""
    if not isinstance(b, Coefficient):
        if not isinstance(a, Coefficient):
            return a / b
        if b == 0.0:
            raise ZeroDivisionError("division by zero")
        linear = {position: factor / b for position, factor in a.linear.items()}
        return Coefficient(a.number / b, linear, (*a.code, b, "/") if a.code else ())
    if not isinstance(a, Coefficient) and a == 0.0:
        return 0.0
    return Coefficient(code=(*code_of(a), *b.as_code(), "/"))


def apply(operation: str, *values: Value) -> Value:
    """An operation of `UNARY`, `BINARY` or ``if`` (condition, then, else)."""
    if all(not isinstance(value, Coefficient) for value in values):
        with np.errstate(all="ignore"):
            return float(_apply(operation, [np.asarray(value) for value in values]))
    code: list[Token] = [token for value in values for token in code_of(value)]
    return Coefficient(code=(*code, operation))


def evaluate(code: Sequence[Token], noises: Floats) -> Floats:
    """Value of postfix code, shape (n,), at noises of shape (n, n_parameters)."""
    stack: list[Any] = []
    with np.errstate(all="ignore"):
        for token in code:
            if isinstance(token, str):
                n = 1 if token in UNARY else (3 if token == "if" else 2)
                stack[-n:] = [_apply(token, stack[-n:])]
            else:
                stack.append(noises[:, token] if isinstance(token, int) else token)
    (value,) = stack
    result: Floats = np.broadcast_to(np.asarray(value, dtype=float), (len(noises),))
    return result


def _apply(operation: str, values: list[Any]) -> Any:
    if operation == "if":
        condition, then, otherwise = values
        return np.where(np.asarray(condition, dtype=bool), then, otherwise)
    if operation in UNARY:
        return UNARY[operation](values[0])
    return BINARY[operation](values[0], values[1])


def _scaled(a: Coefficient, factor: float) -> Coefficient:
    linear = {position: value * factor for position, value in a.linear.items()}
    return Coefficient(a.number * factor, linear, (*a.code, factor, "*") if a.code else ())
