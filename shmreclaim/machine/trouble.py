"""What the compiler says of a function that it cannot compile, shortened to what its author needs: the line, and why.

numba tells its whole way to the problem, in colours, over dozens of lines; the reason is one of them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CALL = re.compile(r"^ *>>> (.+)$", re.MULTILINE)
_REASON = re.compile(r"^ *(?:\w*Error): (.+)$", re.MULTILINE)
_BINDING = re.compile(r'^Cannot bind .*"TypeError: (.+)"\.$', re.MULTILINE)
_NOISE = re.compile(r"^(?:Failed in \w+ mode pipeline .*|During: .*|- Resolution failure .*|)$")
_LINE = re.compile(r'^File "(.*)", line (\d+):', re.MULTILINE)
_SUBSCRIPT = re.compile(r"^(?:static_)?(?:get|set)item\(int64, ")


class Trouble(NamedTuple):
    """Why a function cannot be used."""

    line: int
    function: str
    why: str
    file: str
    """Where the function stands: it may be one that a design imported."""


def reason(text: str) -> str:
    """The one line of the compiler's text that says what is wrong."""
    plain = _COLOURS.sub("", text)
    call, bound = _CALL.search(plain), _BINDING.search(plain)
    if bound:
        return _argument(bound[1])
    if call and _SUBSCRIPT.match(call[1]):
        return "words of memory are used through read_once(mem, i), write_once(mem, i, value) and the like, not mem[i]"
    if call:
        why = _REASON.search(plain)
        return f"{call[1]} cannot be compiled{': ' + _argument(why[1]) if why else ': there is no such operation'}"
    lines = (line.strip() for line in plain.splitlines())
    return next((line for line in lines if not _NOISE.match(line)), "it cannot be compiled")


def _argument(text: str) -> str:
    return text.replace("missing a required argument", "an argument is missing")


def line_in(text: str, first: int, last: int) -> int:
    """The line that the compiler's text shows, if it is one of a function's; else that function's first."""
    shown = [int(number) for _, number in _LINE.findall(_COLOURS.sub("", text))]
    return next((line for line in shown if first <= line <= last), first)
