"""Functions are short: a screen of code besides the docstring."""

import ast
import pathlib

import sevi_jax

MOST_LINES = 60


def lines_of(function):
    """Lines of a function, without its docstring."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = first.end_lineno - first.lineno + 1 if has_docstring else 0
    return function.end_lineno - function.lineno + 1 - docstring


def long_functions(source):
    """Names of the functions that are longer than a screen."""
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > MOST_LINES
    ]


def test_functions_fit_on_a_screen():
    root = pathlib.Path(sevi_jax.__file__).parent
    found = [
        f"{path.relative_to(root)}: {name}"
        for path in sorted(root.rglob("*.py"))
        for name in long_functions(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_docstrings_do_not_count_and_code_does():
    text = '    """One.\n' + "\n" * MOST_LINES + '    """\n'
    code = "    x = 1\n"
    assert long_functions("def f():\n" + text + code * (MOST_LINES - 1)) == []
    assert long_functions("def f():\n" + text + code * MOST_LINES) == ["f"]
    assert long_functions("class A:\n    def f(self):\n" + f"    {code}" * MOST_LINES) == ["f"]
