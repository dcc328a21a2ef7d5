"""Names of images in lists, files and labels that are spelled unlike one another."""

from collections import defaultdict
from collections.abc import Iterable

from fbr_plugin.data.readers.files import IMAGE_SUFFIXES


def respelled(ids: Iterable[str], keys: Iterable[str]) -> dict[str, str]:
    """The key of each id that is a key in another spelling; what could be mixed up is left out."""
    ids, keys = dict.fromkeys(ids), dict.fromkeys(keys)
    wanted, offered = (
        _by_text(name for name in names if name not in others) for names, others in ((ids, keys), (keys, ids))
    )
    return {
        names[0]: offered[text][0]
        for text, names in wanted.items()
        if len(names) == 1 and len(offered.get(text, ())) == 1
    }


def _by_text(names: Iterable[str]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for name in names:
        found[_plain(name)].append(name)
    return found


def _plain(key: str) -> str:
    """A key without its folder, suffix, leading zeros, underscores and the b'' of bytes, in small letters."""
    text = key.removeprefix("b'").removesuffix("'") if key.startswith("b'") else key
    text = text.replace("\\", "/").rpartition("/")[2].casefold().strip()
    suffix = next((each for each in IMAGE_SUFFIXES if text.endswith(each.casefold())), "")
    return text.removesuffix(suffix.casefold()).replace("_", "").lstrip("0")
