"""Strict JSON for rows: what two parsers may read differently is refused."""

from __future__ import annotations

import json
from typing import Any

from guard.errors import InvalidInput


class _RepeatedKey(ValueError):
    pass


class _Constant(ValueError):
    pass


def parse(text: str, constants: bool = True) -> Any:
    """The value of a JSON text. With `constants`, NaN and Infinity are numbers, as `json` writes them.

    Raises InvalidInput, with the position (from 1) of the first mistake, where it is not JSON or an object repeats a
    key: the guard would judge one of two prompts, and another program might use the other.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=None if constants else _no_constant)
    except json.JSONDecodeError as problem:  # its message contains nothing of the text
        place = f"line {problem.lineno} column {problem.colno}" if "\n" in text else f"column {problem.colno}"
        raise InvalidInput(f"not valid JSON: {problem.msg.removesuffix(' at')} at {place}") from None
    except _RepeatedKey:
        raise InvalidInput("not valid JSON: an object repeats a key") from None
    except _Constant:
        raise InvalidInput("not valid JSON: NaN and Infinity are no numbers") from None
    except RecursionError:
        raise InvalidInput("not valid JSON: nested too deeply") from None
    except ValueError:  # of the standard library, for a number of thousands of digits
        raise InvalidInput("not valid JSON: a number is too long") from None


def _no_constant(name: str) -> Any:
    raise _Constant


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) != len(pairs):
        raise _RepeatedKey
    return plain
