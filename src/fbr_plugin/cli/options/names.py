"""The names of the options of commands that need PyTorch, so that a wrong one is found before its import."""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import yaml

from fbr_plugin.cli.options.one_line import unknown_option

FILE = Path(__file__).with_name("names.json")
ANSWERED = re.compile(r"--(.+\.)?help(=.*)?|--print_.*|-h|-[a-z].+")  # perhaps before a wrong option is seen
OPEN = re.compile(r"class_path|init_args|dict_kwargs(\..+)?")  # what every class takes
PHOTOS = "fbr_plugin.data.FolderDataModule"  # the data of `doctor` if no option names others
OTHERS = re.compile("self|model|datamodule|.*dataloaders")  # arguments that Lightning makes of other options


@cache
def read_names() -> Mapping[str, Mapping[str, list[str]]]:
    """The table that `make_names` writes.

    Returns:
        `commands`: the names of their options; {METHOD} stands for the arguments of this method of the
        installed Lightning's Trainer. `choices`: the values of some options. `model` and `data`: the names of
        the settings of our classes, by import path.
    """
    table: dict[str, dict[str, list[str]]] = json.loads(FILE.read_text())
    return table


@cache
def trainer_arguments() -> Mapping[str, list[str]]:
    """The options that Lightning makes of each method of the Trainer, by its source; empty without that."""
    spec = find_spec("pytorch_lightning")  # imports nothing
    file = Path(spec.origin).with_name("trainer") / "trainer.py" if spec and spec.origin else None
    tree = ast.parse(file.read_text(encoding="utf-8") if file and file.is_file() else "")
    trainers = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Trainer")
    methods = (node for trainer in trainers for node in trainer.body if isinstance(node, ast.FunctionDef))
    return {
        method.name: [
            each.arg for each in method.args.args + method.args.kwonlyargs if not OTHERS.fullmatch(each.arg)
        ]
        for method in methods
    }


@cache
def names_of(command: str) -> list[str]:
    """The names of a command's options, without dashes."""
    result = []
    for name in read_names()["commands"][command]:
        before, brace, method = name.rstrip("}").partition("{")
        arguments = trainer_arguments().get(method, [])
        result += [f"{before}{each}" for each in arguments] if brace else [name]
    return result


def wrong_option(words: Sequence[str]) -> str | None:
    """What is said of the first option that certainly does not exist.

    Args:
        words: a command and its options, with paths of files after --config.

    Returns:
        The line. None if there is no such option or the parser has to decide: of abbreviations, and of what
        lies below a class that is not ours or below any other value that has names of its own.
    """
    command, *rest = words
    if command not in read_names()["commands"] or any(map(ANSWERED.fullmatch, rest)):
        return None
    known, remedy = names_of(command), f"see fbr-plugin {command} --help"
    options = [*_options(rest, known)]
    if any(_is_abbreviation(name, known) for name, _ in options) or not trainer_arguments():
        return None
    classes = _default_classes(command, options)
    for name, value in options:
        if _is_unknown(name, known):
            return unknown_option(name, known, remedy)
        key = next((each for each in classes if name.startswith(f"{each}.")), "")
        setting = name.removeprefix(f"{key}.").removeprefix("init_args.")
        settings = _settings(key).get(classes.get(key, ""), [])
        decided = OPEN.fullmatch(setting) or _is_abbreviation(setting, settings)
        if settings and not decided and _is_unknown(setting, settings):
            return unknown_option(setting, settings, remedy, key, classes[key])
        classes |= _classes(name, value, known)
    return None


def names_to_complete(words: Sequence[str]) -> list[str]:
    """The names of a command's options, and of the settings of the classes named so far.

    Args:
        words: the command and the options so far, with paths of files after --config.
    """
    command, *rest = words
    known = names_of(command)
    options = [*_options(rest, known)]
    classes = _default_classes(command, options)
    for name, value in options:
        classes |= _classes(name, value, known)
    below = (f"{key}.{each}" for key, path in classes.items() for each in _settings(key).get(path, []))
    return [*known, *below]


def class_options(known: Sequence[str]) -> list[str]:
    """Those of a command's names whose value is a model or a data module."""
    keys = (name.removesuffix(".help") for name in known if name.endswith(".help"))
    return [key for key in keys if _settings(key)]


def _options(words: Sequence[str], known: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The names and values of options. What appends to a list, or may be a value itself, is left out."""
    for word, after in pairwise([*words, ""]):
        name, equals, value = word.removeprefix("--").partition("=")
        if word == "--":
            return
        if word == "-c":
            yield "config", after
        elif word.startswith("--") and "+" not in name and (" " not in word or name in known):
            yield name, value if equals else after


def _is_abbreviation(name: str, known: Sequence[str]) -> bool:
    """Whether a name is the start of known ones, which the parser takes for the only one, if there is one."""
    return name not in known and any(each.startswith(name) for each in known)


def _is_unknown(name: str, known: Sequence[str]) -> bool:
    """Whether a dotted name leaves the known ones where these go on."""
    parts, split = name.split("."), [each.split(".") for each in known]
    for index, part in enumerate(parts):
        here = {each[index] for each in split if each[:index] == parts[:index] and len(each) > index}
        if part not in here:
            return bool(here - {"help"})
    return False


def _settings(key: str) -> Mapping[str, list[str]]:
    """The names of the settings of our classes that an option takes, by import path."""
    kind = key.rpartition(".")[2]
    return read_names()[kind] if kind in ("model", "data") else {}


def _default_classes(command: str, options: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The classes that a command takes if no option names any."""
    named = any(name in ("data", "config") for name, _ in options)
    return {"data": PHOTOS} if command == "doctor" and not named else {}


def _classes(name: str, value: str, known: Sequence[str]) -> dict[str, str]:
    """The import paths of the classes that an option names, by the option that takes them; "" if not ours."""
    keys = class_options(known)
    if name == "config":
        given = _classes_in(Path(value), keys) if value else {}
    else:
        key = name.removesuffix(".class_path")
        given = {key: value} if key in keys else {}
    return {key: _import_path(key, value) for key, value in given.items()}


def _classes_in(file: Path, keys: Sequence[str]) -> dict[str, str]:
    """The classes that a YAML file names."""
    content = yaml.safe_load(file.read_text())
    if any("." in str(name) for name in content):
        return dict.fromkeys(keys, "")
    result = {}
    for key in keys:
        node = content
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        path = node.get("class_path") if isinstance(node, dict) else node
        if path is not None:
            result[key] = str(path)
    return result


def _import_path(key: str, given: str) -> str:
    """The import path of a class of ours; stages of the pipeline do not take its name alone."""
    alone = key in ("model", "data")
    return next(
        (path for path in _settings(key) if given == path or (alone and path.endswith(f".{given}"))), ""
    )
