"""What a parser says of a mistake, often a line for each type of a Union, in one line with the remedy."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pydoc import locate

from jsonargparse import ArgumentParser

LONGEST = 80  # characters of a value that is repeated
# Lines that only introduce others, or say the same again.
FRAME = re.compile(r"Does not validate|Errors:|Given value type:|Expected a (path but|<class 'NoneType)")
CONTEXT = re.compile(r"Problem with given class_path '(.+)':|(Subtypes|Given value): (.+)")
UNKNOWN_OPTION = re.compile(
    r"unrecognized arguments: (?P<words>.+)|Option '(?P<name>.+)' is not accepted.*"
    r"|(?:Subcommand|Group '(?P<group>.+)') .*does not accept option '(?P<member>.+)'"
)
UNKNOWN_CLASS = re.compile(
    r"Expected a dot import path|module .+ has no attribute|No module named|Import path does not"
)
MISSING = re.compile(r"the following arguments are required: (.+)")
CHOICE = re.compile(r"invalid choice: (?P<value>.+) \(choose from (?P<choices>.+)\)")


@dataclass
class Complaint:
    """The innermost complaints of a message, and what the lines around them tell.

    Attributes:
        leaves: the complaints, one for each type of a Union.
        keys: names of the option that they are about, from the outermost.
        owner: class path of what the option belongs to, and how many of the keys lead to it.
        value: what was given; empty where the message does not tell.
        types: full names of the classes that the value may be of.
    """

    leaves: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    owner: tuple[str, int] | None = None
    value: str = ""
    types: list[str] = field(default_factory=list)

    def option(self, name: str = "") -> str:
        """The option with dashes, or one with this name beside it."""
        return "--" + ".".join([*self.keys, name] if name else self.keys)


def one_line(message: str, parser: ArgumentParser) -> str:
    """Condense a message of jsonargparse.

    Args:
        message: one or more lines; nested ones are indented.
        parser: of the command's options.

    Returns:
        The option, the value and what was expected, with the nearest name where there is one.
    """
    found = read(message)
    command = parser.prog.replace(" [options]", "")
    first, help_line = found.leaves[0], f"see {command} --help"
    if match := UNKNOWN_OPTION.fullmatch(first):
        return _unknown_option(found, match, option_names(parser), help_line)
    if match := MISSING.fullmatch(first):
        names = [name.removeprefix(f"{command.split()[-1]}.") for name in match[1].split(", ")]
        positional = {action.dest for action in parser._actions if not action.option_strings}
        missing = (name if name in positional else found.option(name) for name in names)
        return f"missing {', '.join(missing)}; {help_line}"
    if unknown := [leaf for leaf in found.leaves if UNKNOWN_CLASS.match(leaf)]:
        return _unknown_class(found, unknown[0])
    if match := CHOICE.fullmatch(first):
        found.leaves, found.value = [f"Expected a Literal[{match['choices']}]"], match["value"].strip("'")
    expected = [leaf.removeprefix("Expected a ") for leaf in found.leaves if leaf.startswith("Expected a ")]
    if found.keys and len(expected) == len(found.leaves):
        literals = " ".join(each for each in expected if "Literal" in each)
        question = _question(found.value, re.findall(r"'([\w-]+)'", literals))
        wanted = "one of" if literals else "of type"
        kinds = " or ".join(dict.fromkeys(map(_readable, expected)))
        return f"{found.option()} must be {wanted} {kinds}, got {_short(found.value)}{question}"
    text = "; ".join(dict.fromkeys(found.leaves))
    return f"{found.option()}: {text}" if found.keys else f"{text}; {help_line}"


def read(message: str) -> Complaint:
    """Take the lines of a message apart."""
    found, leaves = Complaint(), []
    for line in message.splitlines():
        depth, text = len(line) - len(line.lstrip(" -")), line.strip(" -")
        if match := re.match(r"Parser key \"(.+?)\"(?: element \d+)?:|argument (?:\S+/)?-*([\w.-]+):", text):
            found.keys.append(match[1] or match[2])
            text = text[match.end() :].strip()
        if match := CONTEXT.fullmatch(text):
            if match[1]:
                found.owner = match[1], len(found.keys)
            elif match[2] == "Subtypes":
                found.types = re.findall(r"[\w.]+\.[A-Z]\w+", match[3])
            else:
                nested = re.fullmatch(r"NestedArg\(.*val='?(.*?)'?\)", match[3])
                found.value = found.value or (nested[1] if nested else match[3])
        elif text and not FRAME.match(text):
            text, _, value = text.partition(". Got value: ")
            found.value = found.value or value
            leaves.append((depth, text))
    deepest = max((depth for depth, _ in leaves), default=0) if "Errors:" in message else 0
    found.leaves = [text for depth, text in leaves if depth >= deepest] or ["not accepted"]
    return found


def option_names(parser: ArgumentParser) -> list[str]:
    """The dotted names of a parser's options, without dashes."""
    return [word[2:] for word in parser._option_string_actions if word.startswith("--")]


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known dotted name that was probably meant: the first part that is unknown is replaced."""
    parts, split = name.split("."), [each.split(".") for each in known]
    for index, part in enumerate(parts):
        here = {each[index] for each in split if each[:index] == parts[:index] and len(each) > index}
        if part not in here:
            if close := get_close_matches(part, sorted(here), 1):
                return ".".join([*parts[:index], close[0], *parts[index + 1 :]])
            break
    return next((each for each in known if each.endswith(f".{name}")), None)


def unknown_option(name: str, known: Sequence[str], remedy: str, key: str = "", path: str = "") -> str:
    """What is said of an option that there is not.

    Args:
        name: its dotted name; of a class's setting, the part after `key`.
        known: the names there are.
        remedy: what to do where no known name is near.
        key: the option that names the class, whose settings have a remedy of their own.
        path: import path of the class.
    """
    dashes, whose = "--", ""
    if key:
        dashes, whose = f"--{key}.", f" of {path.rpartition('.')[2]}"
        remedy = f"{dashes}help {path} lists those there are"
    if close := nearest(name, known):
        remedy = f"did you mean {dashes}{close}?"
    return f"unknown option {dashes}{name}{whose}; {remedy}"


def _unknown_option(found: Complaint, match: re.Match[str], options: Sequence[str], help_line: str) -> str:
    """An option that there is not, and the nearest."""
    word = (match["words"] or "").split(" ")[0]
    if match["words"] and not word.startswith("-"):
        return f"unexpected {word!r}: options start with --; {help_line}"
    name = word.partition("=")[0].lstrip("-") or match["name"] or match["member"]
    if match["group"]:
        name = f"{match['group']}.{name}"
    if not found.owner:
        return unknown_option(name, options, help_line)
    path, depth = found.owner
    owner = ArgumentParser(exit_on_error=False)
    owner.add_class_arguments(locate(path))
    return unknown_option(name, option_names(owner), "", ".".join(found.keys[:depth]), path)


def _unknown_class(found: Complaint, leaf: str) -> str:
    """A class path that leads nowhere, and the nearest class."""
    names = {each.__name__ for kind in found.types for each in _subclasses(locate(kind))}
    kinds = " or ".join(dict.fromkeys(name.rpartition(".")[2] for name in found.types))
    why = "no class has this name" if leaf.startswith("Expected") else leaf
    question = _question(found.value.rpartition(".")[2], sorted(names))
    remedy = question or f"; give the class path of a {kinds}, such as mine.Mine"
    return f"{found.option()} {_short(found.value)}: {why}{remedy}"


def _subclasses(kind: object) -> Iterator[type]:
    """All imported subclasses that a user would name."""
    known: list[type] = type.__subclasses__(kind) if isinstance(kind, type) else []
    for each in known:
        if not each.__name__.startswith("_"):
            yield each
        yield from _subclasses(each)


def _readable(kind: str) -> str:
    """A type as its short name, a Literal as its values."""
    if match := re.search(r"Literal\[(.+)\]", kind):
        return match[1]
    return re.sub(r"<class '(?:[\w]+\.)*(\w+)'>|(?:\w+\.)+(\w+)", r"\1\2", kind)


def _question(value: str, known: Sequence[str]) -> str:
    """The known name nearest to a value, as a question; empty without any."""
    close = get_close_matches(value, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}..."
