"""Damaged copies of valid files: of their bytes, and of what the bytes mean."""

import io
import json
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from random import Random
from typing import Any, Literal

import numpy as np

LONGEST = 2**20  # bytes of a damaged file
LONG = 200_000  # characters of a long field, more than the csv module takes
PNG = b"\x89PNG\r\n\x1a\n"
NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, 65535, 300_000_000, 2**31 - 1, 2**31, 2**32 - 1, 2**62)
WORDS = (
    *("nan", "NaN", "inf", "-1", "0", "7", "1e308", "1e-400", "\u00b2", "\u0663", "null", "true", "0x1"),
    *("..", "../x", "/x", "a/../../x", "\\", "\0", "\u00e9", "\ufeff", "\u2028", "\ud800", "%s", "'", '"'),
    *("", "9" * 30, "[" * 3000, "x" * LONG, "&a [*a, *a]", "!!int x", "!!timestamp x", "1_0", "{}", "id"),
    *("background", "2020-99-99", "!!python/name:os.system"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 7, 2**31, 2**63, 10**30, 0.5, -1.0, 1e300, float("nan"), float("inf")),
    *("", "x", "..", "../x", "\0", "x" * LONG, [], {}, [[]], [1, 2, 3], ["x"], {"x": 1}, [1e9] * 8),
)


class Call:
    """Is pickled as a call of the system, which no reader may make."""

    def __reduce__(self) -> Any:
        import os

        return os.system, ("true",)


def damaged(data: bytes, suffix: str, valid: bytes, chance: Random, others: list[bytes]) -> bytes:
    """A damaged copy of a file.

    Args:
        data: its content.
        suffix: of its name, which tells how it is structured.
        valid: content of a valid file; only this is ever unpickled here.
        chance: source of randomness.
        others: contents of which parts may be taken.
    """
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        try:
            structured = chance.random() < 0.6 and _structured(data, suffix, valid, chance)
        except Exception:  # what is damaged already may have no structure
            structured = None
        data = structured or chance.choice(_BYTES)(data, chance, chance.choice(others))
    return data[:LONGEST]


def _structured(data: bytes, suffix: str, valid: bytes, chance: Random) -> bytes | None:
    """A copy that is damaged in its meaning; None where that is unknown."""
    if data.startswith(b"PK"):
        return _archive(data, chance)
    if data.startswith(PNG):
        return _chunks(data, chance)
    if suffix == ".json":
        return json.dumps(_tree(json.loads(data), chance)).encode()
    if suffix == ".safetensors":
        length = int.from_bytes(data[:8], "little")
        header = json.dumps(_tree(json.loads(data[8 : 8 + length]), chance)).encode()
        return len(header).to_bytes(8, "little") + header + data[8 + length :]
    if suffix in (".npy", ".pkl"):
        return _pickled(valid, chance)
    if suffix in (".txt", ".csv", ".xml", ".yaml", ""):
        return _text(data, chance)
    return None


def _archive(data: bytes, chance: Random) -> bytes:
    """A zip archive with a damaged member, or with another size or compression of one."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(file, "w") as copy:
        members = archive.infolist()
        chosen = chance.randrange(len(members))
        for index, member in enumerate(members):
            content = archive.read(member) if member.file_size < LONGEST else b""
            if index == chosen:
                if chance.random() < 0.2:
                    content = content[:128] + bytes(chance.choice((0, 2**16, 2**24)))
                content = chance.choice(_BYTES)(content, chance, content)
            kind = chance.choice(
                (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
            )
            copy.writestr(zipfile.ZipInfo(member.filename), content, kind)
    return file.getvalue()


def _chunks(data: bytes, chance: Random) -> bytes:
    """A PNG with a damaged chunk, whose checksum is right."""
    chunks = []
    position = len(PNG)
    while position + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        chunks.append((kind, data[position + 8 : position + 8 + length]))
        position += 12 + length
    index = chance.randrange(len(chunks))
    kind, content = chunks[index]
    if kind == b"IDAT" and chance.random() < 0.5:
        content = zlib.compress(chance.choice(_BYTES)(zlib.decompress(content), chance, content))
    elif chance.random() < 0.2:
        kind = chance.choice(
            (b"tRNS", b"PLTE", b"eXIf", b"iTXt", b"zTXt", b"acTL", b"fdAT", b"gAMA", b"IHDR")
        )
        chunks.insert(index, (kind, content))
    else:
        content = chance.choice(_BYTES)(content, chance, content)
    chunks[index] = kind, content
    parts = (
        struct.pack(">I", len(own)) + name + own + struct.pack(">I", zlib.crc32(name + own))
        for name, own in chunks
    )
    return PNG + b"".join(parts)


def _pickled(valid: bytes, chance: Random) -> bytes:
    """A pickle, bare or as `np.save` wraps it, of a content with a changed value."""
    content = np.load(io.BytesIO(valid), allow_pickle=True)
    content = content.item() if content.shape == () else content
    arrays = [np.full((2, 3), np.nan), np.zeros((0, 5)), np.array(7), np.array(["x"]), np.ones(2, complex)]
    changed = _tree(content, chance, (*arrays, Call(), b"x", 1j, np.float32(7), np.ones(2**16)))
    if isinstance(changed, dict) and chance.random() < 0.2:
        shared = chance.choice([np.ones(2**16), next(iter(changed.values()), 0)])
        changed = dict.fromkeys(range(chance.choice((3, 3000))), shared)
    file = io.BytesIO()
    if chance.random() < 0.5:
        np.save(file, np.array(changed, dtype=object))
    else:
        pickle.dump(changed, file, chance.randrange(6))
    return file.getvalue()


def _tree(content: Any, chance: Random, more: tuple[Any, ...] = ()) -> Any:
    """A copy of nested containers in which a value is replaced, removed or repeated."""
    root = [deepcopy(content)]
    places = [*_places(root)]
    holder, key = chance.choice(places)
    action = chance.random()
    if action < 0.15 and holder is not root:
        del holder[key]
    elif action < 0.3 and isinstance(holder, list):
        holder += [holder[key]] * chance.choice((1, 50))
    elif action < 0.45 and isinstance(holder, dict):
        holder[chance.choice([*map(str, VALUES[:-6]), 0, -1, 99])] = holder.pop(key)
    else:
        other, name = chance.choice(places)
        holder[key] = deepcopy(chance.choice((*VALUES, *more, other[name])))
    return root[0] if root else None


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Each place of a value in nested containers: the container, and its key there."""
    left = [holder]
    while left:
        holder = left.pop()
        for key in [*holder] if isinstance(holder, dict) else range(len(holder)):
            yield holder, key
            if isinstance(holder[key], dict | list):
                left.append(holder[key])


def _text(data: bytes, chance: Random) -> bytes:
    """A text with another word, number or line, or in another encoding."""
    text = data.decode("utf-8", "surrogateescape")
    words = [*re.finditer(r"[^\s,<>:{}\[\]]+", text)]
    lines = text.splitlines(keepends=True)
    action = chance.random()
    if action < 0.6 and words:
        place = chance.choice(words)
        text = text[: place.start()] + chance.choice((*WORDS, *map(str, NUMBERS))) + text[place.end() :]
    elif action < 0.9 and lines:
        chosen = chance.randrange(len(lines))
        lines[chosen : chosen + 1] = chance.choice(
            (
                [],
                [lines[chosen]] * 2,
                [lines[chosen].strip() + chance.choice((" x", ",1", "\t", "\r")) + "\n"],
                lines,
            )
        )
        text = "".join(lines)
    else:
        encoding = chance.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32"))
        if text.startswith("<"):
            named = chance.choice(("x", "utf-7", encoding, "cp037", "big5"))
            text = f"<?xml version='1.0' encoding='{named}'?>{text}"
        return (text + chance.choice(("", "é"))).encode(encoding, "replace")
    return text.encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape")


def _flip(data: bytes, chance: Random, other: bytes) -> bytes:
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 3, 10)) if data else 0):
        result[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(result)


def _cut(data: bytes, chance: Random, other: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _repeat(data: bytes, chance: Random, other: bytes) -> bytes:
    start, end = _range(data, chance)
    return data[:end] + data[start:end] * chance.choice((1, 1, 2, 100)) + data[end:]


def _remove(data: bytes, chance: Random, other: bytes) -> bytes:
    start, end = _range(data, chance)
    return data[:start] + data[end:]


def _insert(data: bytes, chance: Random, other: bytes) -> bytes:
    place = chance.randrange(len(data) + 1)
    return data[:place] + chance.randbytes(chance.choice((1, 2, 4, 16))) + data[place:]


def _number(data: bytes, chance: Random, other: bytes) -> bytes:
    """Overwrite bytes, the first ones above all, by a number that headers do not expect."""
    size = chance.choice((1, 2, 4, 8))
    order: Literal["little", "big"] = chance.choice(("little", "big"))
    place = chance.randrange(max(1, min(len(data), chance.choice((32, 128, len(data) or 1)))))
    number: bytes = (chance.choice(NUMBERS) % 256**size).to_bytes(size, order)
    return b"".join((data[:place], number, data[place + size :]))


def _splice(data: bytes, chance: Random, other: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


def _range(data: bytes, chance: Random) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.choice((1, 4, 16, 256)))


_BYTES: tuple[Callable[[bytes, Random, bytes], bytes], ...] = (
    *(_flip, _flip, _cut, _repeat, _remove, _insert, _number, _number, _splice),
)
