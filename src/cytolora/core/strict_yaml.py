"""Strict YAML reading: bounded in size, depth and aliases; a key that stands twice is refused."""

from typing import Any

import yaml

MAX_CHARACTERS = 4_000_000
MAX_DEPTH = 64
"""Nested lists and mappings; the deepest spec has 5."""
MAX_NODES = 200_000
"""Values, with those that aliases stand for: aliases of aliases grow without bound."""
_MAX_DIGITS = 300


def read_yaml_text(text: str) -> Any:
    """Reads one document of plain YAML.

    Raises:
        ValueError: If it is no YAML, goes beyond a bound, or a mapping has a key twice; with the line where known.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has more than {MAX_CHARACTERS:,} characters")
    try:
        _check_bounds(text)
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


_PLAIN_TAGS = (None, "!", "tag:yaml.org,2002:str")
"""What may stand before a value: nothing, or ``!!str``, which keeps 007 a text."""


class _Loader(yaml.SafeLoader):
    """Refuses keys that stand twice, of which the last would be taken, and numbers that Python cannot hold."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, Any] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise _at(key_node, f"a key is a {type(key).__name__}, expected a text or a number")
        if key in seen:
            twice = "stands twice" if type(key) is type(seen[key]) else f"is the same as {seen[key]!r}"
            raise _at(key_node, f"the key {key!r} {twice}; remove one of them, or write texts in quotes")
        seen[key] = key
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key_node, deep=True): loader.construct_object(value_node, deep=True)
        for key_node, value_node in node.value
    }


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > _MAX_DIGITS:
        raise _at(node, f"the number {node.value[:20]}… has {len(node.value):,} digits, expected at most {_MAX_DIGITS}")
    try:
        return loader.construct_yaml_int(node)
    except ValueError as error:
        raise _at(node, f"{node.value!r} is no whole number") from error


def _at(node: Any, problem: str) -> ValueError:
    """The error for a node or event of YAML."""
    return ValueError(f"line {node.start_mark.line + 1}: {problem}")


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def _check_bounds(text: str) -> None:
    """Counts depth and values before anything is built: the parser is a loop, the constructor calls itself."""
    sizes = [0]  # of the collections that are open, and of the whole
    anchors: list[str | None] = []  # of the collections that are open
    size_of: dict[str, int] = {}
    for event in yaml.parse(text, yaml.SafeLoader):
        if getattr(event, "tag", None) not in _PLAIN_TAGS:
            raise _at(event, f"the tag {event.tag} is not read; write plain values")
        if isinstance(event, yaml.CollectionStartEvent):
            sizes.append(1)
            anchors.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            size = sizes.pop()
            sizes[-1] += size
            if (anchor := anchors.pop()) is not None:
                size_of[anchor] = size
        elif isinstance(event, yaml.ScalarEvent | yaml.AliasEvent):
            sizes[-1] += size_of.get(event.anchor or "", 1) if isinstance(event, yaml.AliasEvent) else 1
        if len(anchors) > MAX_DEPTH:
            raise _at(event, f"found lists and mappings nested more than {MAX_DEPTH} deep")
        if sum(sizes) > MAX_NODES:
            raise _at(event, f"found more than {MAX_NODES:,} values, counting those that aliases stand for")
