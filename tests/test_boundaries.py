"""Our contract is typed; only at the boundary to others is an attribute looked up by its name."""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Calls of getattr and hasattr in each file, and why they cannot be typed.
ALLOWED = {
    "src/fbr_plugin/training/mixin.py": (2, "a user's module may lack view_shape; a name that PyTorch reads"),
    "src/fbr_plugin/callbacks/loggers/guard.py": (
        2,
        "loggers have `experiment`, but Lightning's base class does not",
    ),
    "src/fbr_plugin/experiments/sweep/settings.py": (1, "Python has sched_getaffinity on Linux alone"),
    "baselines/released/convert.py": (1, "the kinds of checkpoints are data, and name their network"),
}


def lookups(text: str) -> int:
    """The number of calls of getattr and hasattr in a source text."""
    calls = (node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return sum(isinstance(call, ast.Name) and call.id in {"getattr", "hasattr"} for call in calls)


def test_attributes_are_looked_up_by_name_only_where_allowed() -> None:
    paths = [path for top in ("src/fbr_plugin", "baselines") for path in (ROOT / top).rglob("*.py")]
    found = Counter({path.relative_to(ROOT).as_posix(): lookups(path.read_text()) for path in paths})
    assert +found == {path: count for path, (count, _) in ALLOWED.items()}


def test_both_functions_are_counted_but_not_methods_of_that_name() -> None:
    assert lookups("getattr(a, 'b')\nif hasattr(a, 'b'):\n    a.getattr('b')") == 2
