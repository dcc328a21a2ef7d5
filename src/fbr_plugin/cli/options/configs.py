"""YAML files of settings, by path or, for those of `examples/`, by name."""

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from fbr_plugin import examples
from fbr_plugin.errors import InputError, MissingFileError, short

_DEEPEST = 50  # settings within settings


def shipped() -> dict[str, Path]:
    """The files of `examples/` by name, which is the path below that folder without its suffix."""
    folder = Path(examples.__file__).parent
    files = sorted(folder.rglob("*.yaml"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def find_config(given: str) -> str:
    """The path of a file of settings.

    Args:
        given: a path, or a name such as `scenes_pipeline` or `recipes/voc/amn`.

    Raises:
        FileNotFoundError: neither leads to a file.
        ValueError: the file is no YAML, or has no settings.
    """
    path, files = Path(given), shipped()
    if not path.is_file():
        name = given.removesuffix(".yaml")
        if name not in files:
            raise MissingFileError(f"{given} is neither a file nor one of ours by name{_known(name, files)}")
        path = files[name]
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        where = _place(error.problem_mark)
        raise InputError(f"{path} is no YAML: {short(error.problem)}{where}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no YAML: it is no text file in UTF-8") from error
    except Exception as error:  # of any kind, from a value that is not of the type that it is marked as
        raise InputError(f"{path} has a value that cannot be read ({short(error)}): correct it") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} has no settings: write lines NAME: VALUE, as --print_config does")
    _check_size(path, content, len(text))
    return str(path)


def _check_size(path: Path, content: Any, most: int) -> None:
    """Raise for settings that are nested deeply or, by aliases, more than the characters of their file."""
    count, left = 0, [(content, 1)]
    while left:
        item, depth = left.pop()
        if isinstance(item, dict | list):
            count += len(item)
            if count > most or depth > _DEEPEST:
                raise InputError(
                    f"{path} has settings in settings more than {_DEEPEST} deep, or aliases of aliases: "
                    "write them out"
                )
            left += [(each, depth + 1) for each in (item.values() if isinstance(item, dict) else item)]


def find_configs(words: Sequence[str]) -> Iterator[str]:
    """The words of a command line, with paths of files for what follows --config."""
    before = ""
    for word in words:
        if before in ("--config", "-c"):
            yield find_config(word)
        elif word.startswith("--config="):
            yield f"--config={find_config(word.removeprefix('--config='))}"
        else:
            yield word
        before = word


def _place(mark: yaml.Mark | None) -> str:
    """Where the mistake in a file is."""
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _known(name: str, files: Collection[str]) -> str:
    """The name that was probably meant, and the names in the same folder."""
    close = get_close_matches(name.removeprefix("examples/"), files, 1)
    folder = name[: name.rfind("/") + 1]
    if not any(each.startswith(folder) for each in files):
        folder = ""
    rests = (each.removeprefix(folder).partition("/") for each in files if each.startswith(folder))
    beside = dict.fromkeys(f"{folder}{first}{more and '/...'}" for first, more, _ in rests)
    return f"{f'; did you mean {close[0]}?' if close else '.'} There are {', '.join(beside)}"
