"""Policies: what is harmful, in words that a person can edit; what one policy's labels mean under another."""

from guard.policy.policy import (
    CODE,
    Category,
    Code,
    Detail,
    Id,
    Line,
    Policy,
    as_dict,
    canonical,
    dump,
    from_text,
    is_name,
    json_schema,
    load,
    ordered,
    shipped,
    unknown_codes,
)
from guard.verdict import natural

__all__ = [
    "CODE",
    "Category",
    "Code",
    "Detail",
    "Id",
    "Line",
    "Policy",
    "as_dict",
    "canonical",
    "dump",
    "from_text",
    "is_name",
    "json_schema",
    "load",
    "natural",
    "ordered",
    "shipped",
    "unknown_codes",
]
