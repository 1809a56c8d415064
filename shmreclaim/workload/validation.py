"""Tables of a TOML file into msgspec Structs, with errors that name the key, its place and what is allowed there.

msgspec checks each value against its field's type. The walk over the keys is done here, because an error must say
`[parameters] page_cache_share`, not `$.parameters`, and must answer a wrong value with the range it should be in.

Limits: fields are numbers and strings with both bounds, nested Structs, or plain dicts for what a later step checks.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from msgspec import inspect

from shmreclaim.errors import UsageError

AnyStruct = TypeVar("AnyStruct", bound=msgspec.Struct)


@dataclass(frozen=True)
class Place:
    """Where a key stands: in which file, in which table (none at the top level)."""

    file: str
    table: str = ""

    def __str__(self) -> str:
        """Name the place as an error does, to be followed by a key."""
        return f"{self.file}: [{self.table}]" if self.table else f"{self.file}: top-level"

    def inside(self, key: str) -> "Place":
        """Name the table `key` of this place."""
        return Place(self.file, f"{self.table}.{key}" if self.table else key)


def checked(struct: type[AnyStruct], table: Mapping[str, object], place: Place) -> AnyStruct:
    """Build `struct` from `table`, or say what in it is wrong."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for key in table:
        if key not in fields:
            raise _unknown_key(place, key, fields)
    for key, field in fields.items():
        if field.required and key not in table:
            raise UsageError(f"{place} {key} is missing", remedy=f"It must be {allowed(field.type)}.")
    return struct(**{key: _value(field.type, table[key], place, key) for key, field in fields.items() if key in table})


def _value(kind: object, value: object, place: Place, key: str) -> object:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, Mapping):
        return checked(kind, value, place.inside(key))
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise UsageError(
            f"{place} {key} = {_shown(value)}: it must be {allowed(kind)}",
            cause=_meaning(kind),
            remedy=f"Change {key} to {allowed(kind)}.",
        ) from None


def _unknown_key(place: Place, key: str, fields: Iterable[str]) -> UsageError:
    return UsageError(
        f"{place} {_shown(key)}: there is no such key{did_you_mean(key, fields)}",
        remedy=f"Allowed here: {', '.join(fields)}.",
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Propose the nearest of the `known` words, as the end of a sentence; nothing if none is near."""
    near = difflib.get_close_matches(word[:80], list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def allowed(kind: object) -> str:
    """Say which values a field of this type takes."""
    bare = _bare(kind)
    if isinstance(bare, inspect.IntType):
        return f"a whole number from {bare.ge} to {bare.le}"
    if isinstance(bare, inspect.FloatType):
        return f"a number from {bare.ge} to {bare.le}"
    if isinstance(bare, inspect.StrType):
        return f"a string of {bare.min_length or 0} to {bare.max_length} characters"
    return "a table"


def _bare(kind: object) -> inspect.Type:
    described = inspect.type_info(kind)
    return described.type if isinstance(described, inspect.Metadata) else described


def _meaning(kind: object) -> str:
    described = inspect.type_info(kind)
    extra = described.extra_json_schema if isinstance(described, inspect.Metadata) else None
    return f"It is {extra['description']}." if extra and "description" in extra else ""


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python prints no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."
