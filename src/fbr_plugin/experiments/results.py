"""Results cached as JSON, each with the key that determines it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fbr_plugin.data.readers.files import read_json
from fbr_plugin.errors import InputError
from fbr_plugin.files import write_text

REMEDY = "remove it, and make the result"


def known(path: Path, key: Any) -> dict[str, Any] | None:
    """The result in a file if its key is the same, else None."""
    if not path.exists():
        return None
    content = read_json(path, REMEDY)
    if not isinstance(content, dict) or "key" not in content:
        raise InputError(f"{path} holds no result: {REMEDY} again")
    return content if content["key"] == json.loads(json.dumps(key)) else None


def cached(path: Path, key: Any, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result in a file if its key is the same; else compute it, and save it there.

    Args:
        path: JSON file.
        key: everything that determines the result, as JSON.
        compute: computes the result.
    """
    if (result := known(path, key)) is not None:
        return result
    text = json.dumps({"key": key, **compute()}, indent=2)
    write_text(path, text)
    kept: dict[str, Any] = json.loads(text)
    return kept
