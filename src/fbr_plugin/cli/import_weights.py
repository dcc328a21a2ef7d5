"""`fbr-plugin import-weights`: released checkpoints as files that our networks load."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from fbr_plugin.baselines.encoders.common import did_you_mean
from fbr_plugin.baselines.released.convert import Imported, convert, fitting_kinds, read_released
from fbr_plugin.baselines.released.kinds import KINDS
from fbr_plugin.cli.options.parser import Parser
from fbr_plugin.errors import InputError
from fbr_plugin.files import check_file, replacing

SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".safetensors")
SHOWN = 3  # names in a row of the table


def parser() -> Parser:
    """The parser of the command."""
    result = Parser(
        prog="fbr-plugin import-weights",
        description="Convert a released checkpoint into a safetensors file for --ckpt_path or "
        "--model.weights. Pickles are read without running their code. docs/weights.md says where the files "
        "are.",
    )
    result.add_argument("kind", metavar="KIND", help=f"what the file is: {', '.join(KINDS)}")
    result.add_argument("file", type=Path, metavar="FILE", help="a .pth, .pth.tar, .pt or .safetensors file")
    what = "file to write; default: FILE with the suffix .safetensors"
    result.add_argument("--output", type=Path, metavar="FILE", help=what)
    return result


def run(words: list[str]) -> None:
    """Convert a file, and print how its tensors match and how the result is used.

    Args:
        words: the command's name, KIND, FILE and options.
    """
    given = parser().parse_args(words[1:])
    kind, source = given.kind, given.file
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}; {did_you_mean(kind, KINDS)}It may be {', '.join(KINDS)}")
    released = read_released(source)
    output = given.output or _output(source)
    if output.resolve() == source.resolve():
        raise InputError(f"the result would take the place of {source}: give --output FILE.safetensors")
    if output.suffix != ".safetensors":
        raise InputError(f"--output {output} must end with .safetensors, by which it is loaded")
    check_file(output)
    imported = convert(kind, released)
    print(f"{KINDS[kind].source}\n\n{_table(imported)}\n")
    others = [other for other in fitting_kinds(released) if other != kind] if _unsuitable(imported) else []
    advice = f": it has all that the kind {' or '.join(others)} needs" if others else ""
    if imported.misfits or imported.missing:
        raise InputError(f"{source} is no checkpoint of the kind {kind}{advice}; {_faults(imported)}")
    if others:
        print(f"the unexpected names are known{advice}\n")
    settings = {"class_path": imported.network, "init_args": imported.settings}
    known = {"model": json.dumps(settings)} if imported.network else {}
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    with replacing(output) as partial:
        save_file(imported.state, partial, {"kind": kind, "source": source.name, "sha256": digest, **known})
    print(f"written: {output}\n{_usage(imported, output)}")


def _output(source: Path) -> Path:
    """Where the result of a file goes: res50_amn.pth.pth becomes res50_amn.safetensors."""
    while source.suffix in SUFFIXES:
        source = source.with_suffix("")
    return source.with_name(f"{source.name}.safetensors")


def _unsuitable(imported: Imported) -> bool:
    """Whether the file may be of another kind."""
    return bool(imported.misfits or imported.missing or imported.unexpected)


def _table(imported: Imported) -> str:
    """Numbers and first names of the tensors that match, and of those that do not."""
    rows = {
        "matched": imported.matched,
        "missing in the file": imported.missing,
        "unexpected in the file": imported.unexpected,
        "left out, not needed": imported.left_out,
        "initial values": imported.initial,
        "of another shape": imported.misfits,
    }
    return "\n".join(f"{what:24}{len(names):6}  {_first(names)}".rstrip() for what, names in rows.items())


def _faults(imported: Imported) -> str:
    """What keeps a file from being used, by names."""
    if imported.misfits:
        return f"{len(imported.misfits)} shapes disagree, {_first(imported.misfits, '; ')}"
    return f"{len(imported.missing)} tensors are missing, {_first(imported.missing)}"


def _first(names: Sequence[str], between: str = ", ") -> str:
    return between.join([*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])])


def _usage(imported: Imported, output: Path) -> str:
    """How the result is used: options, and settings in YAML."""
    if imported.network is None:
        settings = {**imported.settings, "weights": str(output)}
        return f"model:\n  init_args: {json.dumps(settings)}"
    return (
        f"validate, test and predict take it as --ckpt_path {output}, with\n"
        f"model:\n  class_path: {imported.network}\n  init_args: {json.dumps(imported.settings)}"
    )
