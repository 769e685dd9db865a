# SPDX-License-Identifier: LGPL-2.1-or-later
"""All small changes to a Python file that leave it one: each makes wrong what the line is there for."""

import ast
from collections.abc import Iterable, Iterator, Sequence

from change import Change

_OPPOSITE: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
_SWAPPED = {"any": "all", "all": "any", "min": "max", "max": "min", "sorted": "list"}
_NO_FLAGS = ("O_CLOEXEC", "O_RDONLY")
"""Python sets the first by itself (PEP 446), and the second is 0."""
_Part = ast.expr | ast.keyword


def changes(source: bytes) -> list[Change]:
    """Each that still can be compiled, once."""
    found: dict[bytes, Change] = {}
    for change in _Finder(source).found:
        changed = change.apply(source)
        try:
            compile(changed, "changed", "exec")
        except (SyntaxError, ValueError):
            continue
        found.setdefault(changed, change)
    found.pop(source, None)
    return sorted(found.values(), key=lambda change: change.start)


class _Finder(ast.NodeVisitor):
    def __init__(self, source: bytes) -> None:
        self.found: list[Change] = []
        self._source = source
        self._begins = [0]
        for line in source.splitlines(keepends=True):
            self._begins.append(self._begins[-1] + len(line))
        self._functions: list[ast.FunctionDef] = []
        self._bound: set[str] = set()
        self.visit(ast.parse(source))

    def _start(self, node: ast.AST) -> int:
        return self._begins[_number(node, "lineno") - 1] + _number(node, "col_offset")

    def _end(self, node: ast.AST) -> int:
        return self._begins[_number(node, "end_lineno") - 1] + _number(node, "end_col_offset")

    def _text(self, node: ast.AST) -> str:
        return self._source[self._start(node) : self._end(node)].decode()

    def _put(self, what: str, node: ast.AST, text: str) -> None:
        self._between(what, self._start(node), self._end(node), text)

    def _between(self, what: str, start: int, end: int, text: str = "") -> None:
        self.found.append(Change(what, start, end, text.encode(), not self._functions))

    def _dropped(self, what: str, parts: Sequence[_Part], which: Iterable[_Part]) -> None:
        """Each of these, of parts that commas stand between."""
        for part in which:
            at = parts.index(part)
            if at:
                self._between(what, self._end(parts[at - 1]), self._end(part))
            else:
                self._between(what, self._start(part), self._start(parts[1]) if parts[1:] else self._end(part))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Neither its types nor what decorates it."""
        bound, self._bound = self._bound, set()
        for default in (*node.args.defaults, *(one for one in node.args.kw_defaults if one)):
            self.visit(default)
        self._functions.append(node)
        for statement in node.body:
            self.visit(statement)
        self._functions.pop()
        self._bound = bound

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Only what is in it."""
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Not its type."""
        if node.value:
            self.visit(node.value)
        if isinstance(node.target, ast.Name):
            self._bound.add(node.target.id)

    def visit_Expr(self, node: ast.Expr) -> None:
        """A call, or a docstring."""
        if not isinstance(node.value, ast.Constant):
            self._put("removed", node, "pass")
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Without one that gives a name its first value nothing runs at all."""
        names = {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        kept = all(isinstance(target, ast.Name | ast.Tuple) for target in node.targets)
        if self._functions and (not kept or names & self._bound):
            self._put("removed", node, "pass")
        self._bound |= names
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """As ``a += b``."""
        self._put("removed", node, "pass")
        self.visit(node.value)

    def _jump(self, node: ast.stmt) -> None:
        self._put("removed", node, "pass")

    visit_Continue = visit_Break = visit_Delete = _jump  # noqa: N815

    def visit_Raise(self, node: ast.Raise) -> None:
        """What it says is for tests of messages."""
        self._put("removed", node, "pass")

    def visit_Return(self, node: ast.Return) -> None:
        """A truth is turned round; anything else becomes nothing."""
        if node.value is None:
            self._put("removed", node, "pass")
            return
        returns = self._functions[-1].returns
        if isinstance(returns, ast.Name) and returns.id == "bool":
            self._put("returns the opposite", node.value, f"not ({self._text(node.value)})")
        elif not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._put("returns nothing", node.value, "None")
        self.visit(node.value)

    def _condition(self, test: ast.expr) -> None:
        for truth in ("True", "False"):
            self._put(f"condition taken for {truth.lower()}", test, truth)
        self.visit(test)

    def visit_If(self, node: ast.If) -> None:
        """Both ways."""
        self._condition(node.test)
        for statement in (*node.body, *node.orelse):
            self.visit(statement)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Likewise."""
        self._condition(node.test)
        self.visit(node.body)
        self.visit(node.orelse)

    def visit_While(self, node: ast.While) -> None:
        """One that ends never is noticed at least by who waits for it."""
        if not isinstance(node.test, ast.Constant):
            self._condition(node.test)
        for statement in node.body:
            self.visit(statement)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """Its conditions."""
        self.visit(node.iter)
        for test in node.ifs:
            self._put("condition taken for true", test, "True")
            self.visit(test)

    def visit_With(self, node: ast.With) -> None:
        """Nothing suppressed, nothing locked."""
        plain = [item.context_expr for item in node.items if not item.optional_vars]
        if len(node.items) == 1 and plain:
            self._between("with nothing", self._start(node), self._end(plain[0]), "if True")
        elif len(plain) == len(node.items):
            self._dropped("without one", plain, plain)
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        """Not caught."""
        if not isinstance(node.body[0], ast.Raise):
            at = self._start(node.body[0])
            self._between("not caught", at, at, "raise\n" + " " * node.body[0].col_offset)
        for statement in node.body:
            self.visit(statement)

    def visit_Call(self, node: ast.Call) -> None:
        """An argument less; not those of the log."""
        if isinstance(node.func, ast.Name) and node.func.id in _SWAPPED:
            self._put("another function", node.func, _SWAPPED[node.func.id])
        arguments: list[_Part] = sorted([*node.args, *node.keywords], key=self._start)
        if not (isinstance(node.func, ast.Attribute) and node.func.attr == "add" and len(arguments) > 1):
            self._dropped("argument dropped", arguments, [*node.args[1:][-1:], *node.keywords])
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        """Of each two operands."""
        parts = [node.left, *node.comparators]
        for at, operator in enumerate(node.ops):
            for other in _OPPOSITE[type(operator)]:
                between = f" {other} "
                self._between("comparison", self._end(parts[at]), self._start(parts[at + 1]), between)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Each operand away, and ``and`` for ``or``."""
        name, other = (" and ", " or ") if isinstance(node.op, ast.And) else (" or ", " and ")
        texts = [f"({self._text(value)})" for value in node.values]
        self._put(f"{other.strip()} for{name.rstrip()}", node, f"({other.join(texts)})")
        for at in range(len(texts)):
            self._put("operand dropped", node, f"({name.join(texts[:at] + texts[at + 1 :])})")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """One of several sets or flags; the sign of a sum."""
        if isinstance(node.op, ast.BitOr | ast.BitAnd):
            sides = (self._text(node.left), self._text(node.right))
            for dropped, kept in (sides, sides[::-1]):
                if "|" not in dropped and not dropped.endswith(_NO_FLAGS):
                    self._put("operand dropped", node, f"({kept})")
        elif isinstance(node.op, ast.Sub):
            self._put("operand dropped", node, f"({self._text(node.left)})")
        elif isinstance(node.op, ast.Add):
            self._put("another sign", node, f"({self._text(node.left)} - {self._text(node.right)})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Its not."""
        if isinstance(node.op, ast.Not):
            self._put("not dropped", node, f"({self._text(node.operand)})")
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Only what is computed in it."""
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.visit(part.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Not those that are read by people."""
        for other in _others(node.value, self._text(node)):
            self._put("another constant", node, other)


def _others(value: object, text: str) -> Iterator[str]:
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int) and text.startswith("0o"):
        yield from (oct(value & ~(1 << bit)) for bit in range(12) if value & 1 << bit)
    elif isinstance(value, int):
        yield str(value + 1)
    elif isinstance(value, float):
        yield "0.0" if value else "1.0"
    elif isinstance(value, str) and value and " " not in value:
        yield repr(f"no {value}")
    elif isinstance(value, bytes) and value:
        yield repr(b"no " + value)


def _number(node: ast.AST, name: str) -> int:
    number: int = getattr(node, name)
    return number
