"""Fingerprints of a data set's content: equal for a copy elsewhere, different after an edit."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from fbr_plugin.data.readers.files import find_file, read_once
from fbr_plugin.data.sources import LayoutSource, Source

PROBE = 4096


def fingerprint(source: Source) -> dict[str, str]:
    """Hashes of a list's ids, image labels, images, masks and maps of stuff.

    Images are identified by name, size in bytes and the `PROBE` bytes in their middle, since reading them all
    would take minutes, and everything else by its content.

    Returns:
        sha256 under "list" and, of images on disk, under "images", and under "labels", "masks", "stuff" and
        "instances" if the source has them.
    """
    parts = {"list": "\n".join(source.ids).encode()}
    if isinstance(source, LayoutSource):
        parts |= _parts_on_disk(source)
    return {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}


def _parts_on_disk(source: LayoutSource) -> dict[str, bytes]:
    """What identifies images, labels and masks."""
    parts = {"images": _digest_images(source)}
    if source.labels is not None:
        labels = source.labels
        parts["labels"] = b"".join(name.encode() + labels[name].tobytes() for name in source.ids)
    if source.mask_dir is not None:
        paths = (find_file(source.mask_dir, name) for name in source.ids)
        parts["masks"] = _digests(path for path in paths if path.exists())
    if source.object_masks is not None:
        masks = (source.object_masks[name] for name in source.ids)
        parts["masks"] = _digests(path for mask in masks for path in mask.files if path.exists())
    if source.stuff is not None:
        parts["stuff"] = _digests(source.stuff.files.values())
    if source.instances is not None:
        parts["instances"] = _digests(dict.fromkeys(source.instances.files.values()))
    return parts


def content_hash(paths: Iterable[Path]) -> str:
    """The sha256 of the contents of files in their order, whatever their names."""
    return hashlib.sha256(_digests(paths)).hexdigest()


def _digests(paths: Iterable[Path]) -> bytes:
    return b"".join(map(_digest, paths))


@read_once
def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _digest_images(source: LayoutSource) -> bytes:
    paths = map(source.image_path, source.ids)
    return json.dumps([(path.name, *_probe(path)) for path in paths]).encode()


@read_once
def _probe(path: Path) -> tuple[int | None, str]:
    """The size of a file, None without one, and the hash of its middle."""
    if not path.exists():
        return None, ""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, (size - PROBE) // 2))
        return size, hashlib.sha256(file.read(PROBE)).hexdigest()
