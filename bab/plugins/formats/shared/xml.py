"""XML of strangers: no entity is expanded, nothing outside the file is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from bab import BabError

LINE = "bab:line"  # the attribute that says in which line an element begins


def parse_xml(path: Path, root: str, what: str) -> Element:
    """The root element of a file, each element with its `LINE`.

    External entities and DTDs are not read; a file that declares entities, which may grow without
    bound or name other files, is refused.

    Args:
        root: the root's name.
        what: the format, for messages.

    Raises:
        BabError: unreadable, not well-formed, entities declared, or another root.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def declared(name: str, *_: object) -> None:
        raise BabError(
            f"{path}:{parser.CurrentLineNumber}: declares the entity '{name}', which no file of "
            "this kind needs: remove it"
        )

    def begun(tag: str, attributes: Mapping[str, str]) -> None:
        builder.start(tag, {**attributes, LINE: str(parser.CurrentLineNumber)})

    parser.EntityDeclHandler = declared
    parser.StartElementHandler = begun
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(path.read_bytes(), True)
    except (OSError, ValueError, LookupError) as error:
        raise BabError(f"{path}: can't be read as {what} ({error})") from error
    except expat.ExpatError as error:
        raise BabError(
            f"{path}:{error.lineno}: not well-formed XML ({error}): is this {what}, copied whole?"
        ) from error
    element = builder.close()
    if element.tag != root:
        raise BabError(f"{path}:1: the root is <{element.tag}>, not <{root}> as in {what}")
    return element
