"""The files that stages exchange: seeds of every circulating layout, and labels of two thresholds.

Masks and labels are PNGs, written and read by `fbr_plugin.data.images`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fbr_plugin.contract import SeedStyle
from fbr_plugin.data.readers.files import find_file
from fbr_plugin.data.readers.pickles import load_restricted
from fbr_plugin.errors import InputError, InputTypeError, MissingFileError, check_choice
from fbr_plugin.files import replacing
from fbr_plugin.functional import resize
from fbr_plugin.postprocess.seeds import Seed


def check_names(names: Iterable[str]) -> None:
    """Raises for an id that would name a file in another folder."""
    for name in names:
        if {"/", "\\"} & set(name):
            raise InputError(f"the id {name!r} holds a path, but it names a file: rename the image")


def read_seed(path: str | Path, empty_size: tuple[int, int] | None = None) -> Seed:
    """Read a seed of any layout that circulates, recognised by its content.

    A dictionary with `keys` and `high_res` (or only `cam`) holds M maps as IRN and BAS write them, or M+1
    with the background first as AMN does; a dictionary from classes to maps is SEAM's and PPC's. Arrays
    `keys` and `scores`, and maybe `background`, are our own compact layout.

    Args:
        path: `.npy`, `.npz` or pickle file.
        empty_size: height and width of a seed whose file leaves them open, as SEAM's of no class does.
    """
    content = load_restricted(path)
    if isinstance(content, dict) and not content and empty_size:
        return Seed(np.zeros(0, np.int64), np.zeros((0, *empty_size), np.float32))
    try:
        keys, maps = _unpack(content)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no seed: {error}. Known are {{'keys', 'cam', 'high_res'}}, {{'keys', 'scores'}} and "
            "{class: map}"
        ) from error
    extra = len(maps) - len(keys)
    return Seed(keys, maps[extra:], maps[0] if extra else None)


def _unpack(content: object) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Keys [M] and maps [M, H, W] or [1+M, H, W] of a seed file's content."""
    if not isinstance(content, dict):
        raise InputTypeError(f"it holds a {type(content).__name__}")
    if not content:
        raise InputError("it holds an empty dict, which leaves its size open")
    if {"keys", "scores"} <= content.keys():
        keys, maps = content["keys"], content["scores"]
        if "background" in content:
            maps = np.concatenate([content["background"][None], maps])
    elif "keys" in content:
        keys, maps = content["keys"], content.get("high_res", content.get("cam"))
    elif all(isinstance(key, int | np.integer) for key in content):
        keys, maps = list(content), np.stack([np.asarray(plane) for plane in content.values()])
    else:
        raise InputError(f"it has the entries {sorted(map(str, content))}")
    keys, maps = np.asarray(keys, np.int64), np.asarray(maps, np.float32)
    if maps.ndim != 3 or keys.ndim != 1 or len(maps) - len(keys) not in (0, 1):
        raise InputError(f"it has {keys.size} keys for maps of the shape {maps.shape}")
    if len(np.unique(keys)) != len(keys) or (keys < 0).any():
        raise InputError(f"its keys {keys.tolist()} are no 0-based classes")
    if not np.isfinite(maps).all():
        raise InputError("it has NaN or infinite scores")
    return keys, maps


def write_seed(path: str | Path, seed: Seed, style: SeedStyle) -> None:
    """Write a seed, whole or not at all.

    Args:
        path: file to write, as named by `seed_path`.
        seed: what is written; `irn` and `seam` leave its background out, `amn` needs it.
        style: `irn` and `amn` hold the maps at the image's size (`high_res`) and at a quarter (`cam`), `seam`
            a map for each class, all as pickles; `compact` is ours, compressed and in half precision.
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
    """Write `keys` int16 [M], `scores` float16 [M, H, W] and maybe `background` float16 [H, W]."""
    arrays = {"keys": seed.keys.astype(np.int16), "scores": seed.scores.astype(np.float16)}
    if seed.background is not None:
        arrays["background"] = seed.background.astype(np.float16)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def seed_path(folder: str | Path, name: str, style: SeedStyle) -> Path:
    """Where the seed of an image goes: `ID.npz` of the compact style, `ID.npy` of the others."""
    return Path(folder, f"{name}.{'npz' if style == 'compact' else 'npy'}")


def common_suffix(folder: Path, ids: Sequence[str]) -> str:
    """Which of `.npy`, `.npz` (seeds) and `.png` (masks) the files of some ids in a folder have."""
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
    """The files of all ids, each found under any of its names; missing ones are an error."""
    paths = [find_file(folder, name, (suffix,)) for name in ids]
    missing = [(name, path) for name, path in zip(ids, paths, strict=True) if not path.is_file()]
    if missing:
        name, path = missing[0]
        raise MissingFileError(
            f"{len(missing)} of {len(ids)} {what} are missing, the first is that of id {name}: {path}. "
            "Is the list the right one?"
        )
    return paths
