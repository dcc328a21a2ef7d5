"""Text files in any encoding."""

import codecs
from pathlib import Path
from typing import NamedTuple

_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}


class Text(NamedTuple):
    """The content of a text file.

    Attributes:
        content: the text; of an unknown encoding, as Windows writes Western European text.
        encoding: its encoding; training reads UTF-8 alone.
    """

    content: str
    encoding: str

    @property
    def is_utf8(self) -> bool:
        """Whether training can read it."""
        return self.encoding in ("utf-8", "utf-8-sig")


def read_text(path: Path) -> Text:
    """Read a text file, whatever its encoding."""
    data = path.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return Text(data.decode(encoding), encoding)
    except UnicodeDecodeError:
        return Text(data.decode("cp1252", errors="replace"), "cp1252")
