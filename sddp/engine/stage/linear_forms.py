"""Pyomo expressions read as ``constant + sum_j coefficient_j * column_j``.

Linearity is proved on the expression: parameters are symbols, so a product of variables is
refused even where a parameter beside it is 0 today. Noise stays symbolic too (`expressions`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyomo.environ as pyo
from pyomo.core.expr import numeric_expr as numeric
from pyomo.core.expr import relational_expr as relational

from sddp.engine.stage.expressions import UNARY, Value, add, apply, divide, multiply, noise

NUMBERS = (int, float)


@dataclass(frozen=True, eq=False)
class Form:
    """An affine function of columns; coefficients by position of the column."""

    constant: Value
    terms: Mapping[int, Value]


Read = Value | Form


class NotLinear(Exception):
    """The expression is not linear in the variables; the text says why."""


class FormReader:
    """Reads the expressions of one model.

    Parameters
    ----------
    positions : mapping from id of a Pyomo parameter to its position in the noise
    column : callable from Pyomo variable to its position among the columns
    """

    def __init__(self, positions: Mapping[int, int], column: Callable[[Any], int]) -> None:
        self._positions, self._column = positions, column
        self._named: dict[int, Read] = {}
        self.seen: set[int] = set()  # positions of the noise that occurred

    def form(self, expression: Any) -> Form:
        """The affine function that an expression is.

        Raises
        ------
        NotLinear
            It is none, whatever values the parameters have.
        ValueError, ZeroDivisionError
            A number in it has no value.
        """
        found = self._read(expression)
        return found if isinstance(found, Form) else Form(found, {})

    def value(self, expression: Any) -> Value:
        """Value of an expression without variables."""
        found = self._read(expression)
        if isinstance(found, Form):
            raise NotLinear("a bound holds a variable")
        return found

    def _read(self, root: Any) -> Read:
        """Depth first without recursion: sums and products may be nested a thousand deep."""
        order: list[tuple[Any, bool]] = []
        waiting = [root]
        while waiting:
            node = waiting.pop()
            leaf = self._is_leaf(node)
            order.append((node, leaf))
            if not leaf:
                waiting.extend(node.args)
        values: list[Read] = []
        for node, leaf in reversed(order):
            if leaf:
                values.append(self._leaf(node))
            else:
                start = len(values) - node.nargs()
                values[start:] = [self._combined(node, values[start:])]
        (found,) = values
        return found

    def _is_leaf(self, node: Any) -> bool:
        kind = type(node)
        if kind in NUMBERS or not hasattr(node, "is_expression_type"):
            return True
        if isinstance(node, numeric.ProductExpression) and _vanishes(node):
            return True
        if kind is numeric.MonomialTermExpression and type(node.args[0]) in NUMBERS:
            return True
        return not node.is_expression_type() or id(node) in self._named

    def _leaf(self, node: Any) -> Read:
        kind = type(node)
        if kind in NUMBERS:
            return float(node)
        if isinstance(node, numeric.ProductExpression) and _vanishes(node):
            return 0.0
        if kind is numeric.MonomialTermExpression:
            factor, variable = node.args
            return _product(node, [float(factor), self._leaf(variable)])
        if not hasattr(node, "is_expression_type"):
            return float(pyo.value(node))  # a number of numpy's
        if node.is_expression_type():
            return self._named[id(node)]
        if node.is_variable_type() and not node.fixed:
            return Form(0.0, {self._column(node): 1.0})
        position = self._positions.get(id(node))
        if position is None:
            return float(pyo.value(node))
        self.seen.add(position)
        return noise(position)

    def _combined(self, node: Any, values: list[Read]) -> Read:
        if node.is_named_expression_type():
            # Remembered by identity within one reading, while the model cannot change.
            self._named[id(node)] = values[0]
            return values[0]
        for kind, combine in _COMBINE:
            if isinstance(node, kind):
                return combine(node, values)
        if all(isinstance(value, float) for value in values):
            return float(pyo.value(node))  # an external function of numbers
        raise NotLinear(f"{type(node).__name__} cannot be read as a number or a linear function")


def _vanishes(node: Any) -> bool:
    """Whether a product has a factor that is written as 0 (not a parameter of that value)."""
    return any(type(argument) in NUMBERS and argument == 0 for argument in node.args)


def _sum(node: Any, values: list[Read]) -> Read:
    constant: Value = 0.0
    terms: dict[int, Value] = {}
    for value in values:
        if not isinstance(value, Form):
            constant = add(constant, value)
            continue
        constant = add(constant, value.constant)
        for column, coefficient in value.terms.items():
            before = terms.get(column)
            terms[column] = coefficient if before is None else add(before, coefficient)
    return Form(constant, terms) if terms else constant


def _product(node: Any, values: list[Read]) -> Read:
    a, b = values
    if isinstance(a, Form) and isinstance(b, Form):
        raise NotLinear(f"it multiplies variables: {_shown(node)}")
    if isinstance(a, Form):
        a, b = b, a
    assert not isinstance(a, Form)
    if not isinstance(b, Form):
        return multiply(a, b)
    return _map(b, lambda value: multiply(a, value))


def _negation(node: Any, values: list[Read]) -> Read:
    (a,) = values
    if not isinstance(a, Form):
        return multiply(-1.0, a)
    return _map(a, lambda value: multiply(-1.0, value))


def _division(node: Any, values: list[Read]) -> Read:
    a, b = values
    if isinstance(b, Form):
        raise NotLinear(f"it divides by a variable: {_shown(node)}")
    if not isinstance(a, Form):
        return divide(a, b)
    return _map(a, lambda value: divide(value, b))


def _power(node: Any, values: list[Read]) -> Read:
    a, b = values
    exponent = node.args[1]
    if not isinstance(a, Form) and not isinstance(b, Form):
        return apply("**", a, b)
    if isinstance(a, Form) and type(exponent) in NUMBERS and exponent == 1:
        return a
    raise NotLinear(f"it takes a power of variables: {_shown(node)}")


def _unary(node: Any, values: list[Read]) -> Read:
    name, (a,) = node.getname(), values
    if isinstance(a, Form):
        raise NotLinear(f"it takes a function of variables: {_shown(node)}")
    if name not in UNARY:
        raise NotLinear(f"function {name} of a parameter is not known")
    return apply(name, a)


def _extreme(node: Any, values: list[Read]) -> Read:
    name = "max" if isinstance(node, numeric.MaxExpression) else "min"
    found = _plain(node, values)
    result = found[0]
    for value in found[1:]:
        result = apply(name, result, value)
    return result


def _either(node: Any, values: list[Read]) -> Read:
    condition, *branches = values
    if isinstance(condition, Form):
        raise NotLinear(f"a condition depends on variables: {_shown(node)}")
    one, other = (b if isinstance(b, Form) else Form(b, {}) for b in branches)
    columns = [*one.terms, *(c for c in other.terms if c not in one.terms)]
    terms = {
        c: apply("if", condition, one.terms.get(c, 0.0), other.terms.get(c, 0.0)) for c in columns
    }
    constant = apply("if", condition, one.constant, other.constant)
    return Form(constant, terms) if terms else constant


def _comparison(node: Any, values: list[Read]) -> Read:
    found = _plain(node, values)
    if isinstance(node, relational.EqualityExpression):
        return apply("==", *found)
    if isinstance(node, relational.RangedExpression):
        signs = ["<" if strict else "<=" for strict in node._strict]
        below, above = (
            apply(s, *pair) for s, pair in zip(signs, (found[:2], found[1:]), strict=True)
        )
        return multiply(below, above)
    return apply("<" if node._strict else "<=", *found)


def _plain(node: Any, values: list[Read]) -> list[Value]:
    if any(isinstance(value, Form) for value in values):
        raise NotLinear(f"it takes a function of variables: {_shown(node)}")
    return [value for value in values if not isinstance(value, Form)]


def _map(form: Form, change: Callable[[Value], Value]) -> Form:
    return Form(change(form.constant), {c: change(value) for c, value in form.terms.items()})


def _shown(node: Any) -> str:
    text = str(node)
    return text if len(text) <= 60 else f"{text[:57]}..."


# Tried in this order: subclasses stand before their bases.
_COMBINE: tuple[tuple[Any, Callable[[Any, list[Read]], Read]], ...] = (
    (numeric.SumExpression, _sum),
    (numeric.ProductExpression, _product),
    (numeric.NegationExpression, _negation),
    (numeric.DivisionExpression, _division),
    (numeric.PowExpression, _power),
    (numeric.UnaryFunctionExpression, _unary),
    ((numeric.MaxExpression, numeric.MinExpression), _extreme),
    (numeric.Expr_ifExpression, _either),
    (relational.RelationalExpression, _comparison),
)
