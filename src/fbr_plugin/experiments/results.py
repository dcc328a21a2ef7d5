"""Results that are kept as JSON, each beside what it was made of."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fbr_plugin.files import write_text


def known(path: Path, key: Any) -> dict[str, Any] | None:
    """The result in a file, where it was made of this key; else None."""
    content = json.loads(path.read_text()) if path.exists() else {}
    return content if content.get("key") == json.loads(json.dumps(key)) else None


def cached(path: Path, key: Any, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result in a file where it was made of this key; else what is computed now, which is kept there.

    Args:
        path: JSON file.
        key: what decides the result: anything that JSON holds.
        compute: makes the result.
    """
    if (result := known(path, key)) is not None:
        return result
    text = json.dumps({"key": key, **compute()}, indent=2)
    write_text(path, text)
    kept: dict[str, Any] = json.loads(text)
    return kept
