"""Offline runs of Weights & Biases, read back."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, 7  # bytes, as in the log of LevelDB; a file begins with a header of its own


def records(file: Path) -> Iterator[Record]:
    """The records in the file `run-*.wandb` of a run."""
    content, kept, at = file.read_bytes(), b"", HEADER
    while at + HEADER <= len(content):
        if (rest := BLOCK - at % BLOCK) < HEADER:
            at += rest
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        kept += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # the whole record, or its last part
            yield Record.FromString(kept)
            kept = b""


class OfflineRun:
    """What a run has kept on disk.

    Attributes:
        folder: of the run.
        history: panel -> its values in order.
        config: the configuration.
        summary: the last or best values.
        artifacts: type -> names of the files in all artifacts of this type.
        group: of the run.
        name: of the run.
        uploads: bytes of its media and artifacts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history: dict[str, list[Any]] = {}
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.artifacts: dict[str, list[str]] = {}
        self.uploads = sum(each.stat().st_size for each in folder.glob("files/media/**/*") if each.is_file())
        (file,) = folder.glob("run-*.wandb")
        for record in records(file):
            match record.WhichOneof("record_type"):
                case "run":
                    self.group, self.name = record.run.run_group, record.run.display_name
                case "history":
                    for key, value in _values(record.history.item).items():
                        self.history.setdefault(key, []).append(value)
                case "config":
                    self.config |= _values(record.config.update)
                case "summary":
                    self.summary |= _values(record.summary.update)
                case "artifact":
                    files = record.artifact.manifest.contents
                    self.artifacts.setdefault(record.artifact.type, []).extend(each.path for each in files)
                    self.uploads += sum(each.size for each in files)


def _values(items: Any) -> dict[str, Any]:
    """Values by their key; those with fields as mappings."""
    found: dict[str, Any] = {}
    for item in items:
        key, *rest = item.nested_key or [item.key]
        value = json.loads(item.value_json)
        if rest:
            found.setdefault(key, {})["/".join(rest)] = value
        else:
            found[key] = value
    return found
