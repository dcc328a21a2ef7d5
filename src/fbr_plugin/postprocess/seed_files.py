"""Files of seeds, in the layouts in common use.

Masks and labels are PNGs, written and read by `fbr_plugin.data.readers.images`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fbr_plugin.contract import SeedStyle
from fbr_plugin.data.readers.files import find_file
from fbr_plugin.data.readers.pickles import load_restricted
from fbr_plugin.errors import InputError, InputTypeError, MissingFileError, check_choice, short
from fbr_plugin.files import replacing
from fbr_plugin.functional import resize
from fbr_plugin.postprocess.seeds import Seed

MOST_CLASSES = 2**15  # what the keys of the compact layout can number


def check_names(names: Iterable[str]) -> None:
    """Raise for an id that would name a file in another folder."""
    for name in names:
        if {"/", "\\"} & set(name):
            raise InputError(f"the id {name!r} contains a path, but must be a file name: rename the image")


def read_seed(path: str | Path, empty_size: tuple[int, int] | None = None) -> Seed:
    """Read a seed of any common layout, recognised by its content.

    A dictionary with `keys` and `high_res` (or only `cam`) holds M maps, as IRN and BAS write them, or M+1
    with the background first, as AMN does. SEAM and PPC write a dictionary from classes to maps. Arrays
    `keys`, `scores` and optionally `background` are this package's compact layout.

    Args:
        path: `.npy`, `.npz` or pickle file.
        empty_size: height and width of a seed whose file does not hold them, such as SEAM's without classes.
    """
    content = load_restricted(path)
    if isinstance(content, dict) and not content and empty_size:
        return Seed(np.zeros(0, np.int64), np.zeros((0, *empty_size), np.float32))
    try:
        keys, maps = _unpack(content)
    except Exception as error:  # of any kind, as the values may be of any
        raise InputError(
            f"{path} is not a seed: {short(error) or type(error).__name__}. Known layouts are "
            "{'keys', 'cam', 'high_res'}, {'keys', 'scores'} and {class: map}"
        ) from error
    extra = len(maps) - len(keys)
    return Seed(keys, maps[extra:], maps[0] if extra else None)


def _unpack(content: object) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Keys [M] and maps [M, H, W] or [1+M, H, W] of a seed file's content."""
    if not isinstance(content, dict):
        raise InputTypeError(f"it holds a {type(content).__name__}")
    if not content:
        raise InputError("it holds an empty dict, whose size is unknown")
    if {"keys", "scores"} <= content.keys():
        keys, maps = content["keys"], _array(content["scores"])
        if "background" in content:
            maps = np.concatenate([_array(content["background"])[None], maps])
    elif "keys" in content:
        keys, maps = content["keys"], _array(content.get("high_res", content.get("cam")))
    elif all(isinstance(key, int | np.integer) for key in content):
        keys, maps = np.array([*content]), np.stack([_array(plane) for plane in content.values()])
    else:
        raise InputError(f"it has the entries {short(sorted(map(str, content)))}")
    given, maps = _array(keys), maps.astype(np.float32, copy=False)
    keys = given.astype(np.int64)
    if maps.ndim != 3 or 0 in maps.shape[1:] or keys.ndim != 1 or len(maps) - len(keys) not in (0, 1):
        raise InputError(f"it has {keys.size} keys for maps of the shape {maps.shape}")
    if len(np.unique(keys)) != len(keys) or not np.array_equal(given, keys.clip(0, MOST_CLASSES - 1)):
        raise InputError(f"its keys {given.tolist()} are not 0-based classes")
    if not np.isfinite(maps).all():
        raise InputError("it has NaN or infinite scores")
    return keys, maps


def _array(value: object) -> NDArray[Any]:
    """An array, which takes no more memory than in the file: a list could repeat a long text."""
    if isinstance(value, np.ndarray):
        return value
    raise InputTypeError(f"it has a {type(value).__name__} in place of an array")


def write_seed(path: str | Path, seed: Seed, style: SeedStyle) -> None:
    """Write a seed, whole or not at all.

    Args:
        path: file to write, as named by `seed_path`.
        seed: the seed; `irn` and `seam` leave its background out, `amn` needs it.
        style: `irn` and `amn` hold the maps at the image's size (`high_res`) and at a quarter (`cam`), `seam`
            a map per class, all as pickles; `compact` is compressed and in half precision.
    """
    check_choice("style", style, SeedStyle)
    if style == "compact":
        _write_compact(path, seed)
        return
    maps = seed.scores
    if style == "amn":
        if seed.background is None:
            raise InputError(f"{path}: the style 'amn' needs a background map; write this seed as 'irn'")
        maps = np.concatenate([seed.background[None], maps])
    content: dict[int, NDArray[np.float32]] | dict[str, object]
    if style == "seam":
        content = dict(zip(seed.keys.tolist(), maps, strict=True))
    else:
        quarter = (-(-maps.shape[1] // 4), -(-maps.shape[2] // 4))
        small = resize(torch.from_numpy(maps)[None], quarter)[0] if len(maps) else torch.zeros(0, *quarter)
        # IRN's own later steps call tensor methods on `cam` and numpy's on `high_res`.
        content = {"keys": seed.keys, "cam": small, "high_res": maps}
    with replacing(path) as partial, partial.open("wb") as file:
        np.save(file, np.array(content, dtype=object))


def _write_compact(path: str | Path, seed: Seed) -> None:
    """Write `keys` int16 [M], `scores` float16 [M, H, W] and, if present, `background` float16 [H, W]."""
    arrays = {"keys": seed.keys.astype(np.int16), "scores": seed.scores.astype(np.float16)}
    if seed.background is not None:
        arrays["background"] = seed.background.astype(np.float16)
    if not all(np.isfinite(each).all() for each in arrays.values()):
        raise InputError(
            f"{path}: scores of up to {seed.scores.max(initial=0):.0f} do not fit into half precision, as "
            "the style 'compact' has: write another style"
        )
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def seed_path(folder: str | Path, name: str, style: SeedStyle) -> Path:
    """The file of an image's seed: `ID.npz` in the compact style, `ID.npy` in the others."""
    return Path(folder, f"{name}.{'npz' if style == 'compact' else 'npy'}")


def common_suffix(folder: Path, ids: Sequence[str]) -> str:
    """The suffix of the files of some ids in a folder: `.npy` or `.npz` (seeds), or `.png` (masks)."""
    kinds = {".npy": "seeds (ID.npy)", ".npz": "compact seeds (ID.npz)", ".png": "masks (ID.png)"}
    found = [kind for kind in kinds if any(find_file(folder, name, (kind,)).is_file() for name in ids)]
    if len(found) != 1:
        several = f"both {' and '.join(kinds[kind] for kind in found)}"
        holds = several if found else "neither a seed (ID.npy, ID.npz) nor a mask (ID.png)"
        raise InputError(
            f"{folder} holds {holds} for the {len(ids)} ids of the list, such as {ids[0]}: "
            "name a folder of one kind"
        )
    return found[0]


def existing_files(folder: Path, ids: Sequence[str], suffix: str, what: str) -> list[Path]:
    """The files of all ids, each found under any spelling of its name; missing files are an error."""
    paths = [find_file(folder, name, (suffix,)) for name in ids]
    missing = [(name, path) for name, path in zip(ids, paths, strict=True) if not path.is_file()]
    if missing:
        name, path = missing[0]
        raise MissingFileError(
            f"{len(missing)} of {len(ids)} {what} are missing, the first is that of id {name}: {path}. "
            "Is the list the right one?"
        )
    return paths
