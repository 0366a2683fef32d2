"""The reference pages, made from the code they describe: `python -m tests.docs.reference` writes them anew."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tempfile
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import typer
from google.protobuf import descriptor_pb2
from google.rpc import status_pb2
from grpc_tools import protoc

from guard import errors
from guard.cli import app
from guard.serve.http.openapi import document
from guard.serve.http.table import INFO_TRANSLATORS, REWARD_TRANSLATORS, TRANSLATORS
from tests.docs.markdown import ROOT

DOCS = ROOT / "docs"
NOTE = "<!-- Made by `just gen`. Edit the code that it describes. -->\n"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell(each) for each in row)} |" for row in cells) + "\n"


def cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


# The command line.


def cli() -> str:
    """docs/cli.md: what `--help` says of every command."""
    root: Any = typer.main.get_command(app)
    parts = [
        f"# Command line\n\n{NOTE}",
        f"{root.help}\n",
        "Errors go to standard error. The options of `guard` itself stand before the command:\n",
        _options(root, "guard"),
    ]
    parts.extend(_commands(root, "guard"))
    return "\n".join(parts)


def _commands(group: Any, prefix: str) -> Iterator[str]:
    for name, command in group.commands.items():
        path = f"{prefix} {name}"
        if getattr(command, "commands", None):
            yield f"## {path}\n\n{_prose(command.help)}"
            yield from _commands(command, path)
        else:
            level = "##" if prefix == "guard" else "###"
            words = command.get_usage(command.context_class(command, info_name=path)).split()
            yield f"{level} {path}\n\n```text\n{' '.join(words[1:])}\n```\n\n{_prose(command.help)}"
            yield _options(command, path)


def _options(command: Any, path: str) -> str:
    context = command.context_class(command, info_name=path)
    records = [each.get_help_record(context) for each in command.params]
    rows = [(f"`{name}`", _angles(text)) for name, text in filter(None, records) if "completion" not in name]
    return table(("option", "meaning"), rows) if rows else ""


def _prose(text: str | None) -> str:
    return f"{_angles(text or '')}\n"


def _angles(text: str) -> str:
    """Text in which `<` is no markup."""
    return text.replace("<", "&lt;")


# Python.

MODULES = {
    "guard": "What most programs need. `import guard` is light: a name's module is loaded when it is first used.",
    "guard.serve.client": "Whether an answer blocks, failing closed.",
    "guard.chat": "Moderated chat completions ([chat.md](chat.md)).",
    "guard.filter": "Data sets in a program of your own ([filtering.md](filtering.md)).",
    "guard.rewards": "Rewards for RL frameworks ([rewards.md](rewards.md)).",
}
FURTHER = {"guard.serve.client": ["is_blocked"], "guard.rewards": ["make_reward", "RewardFunction"]}


def python() -> str:
    """docs/python.md: the public names, with their signatures and docstrings."""
    parts = [f"# Python API\n\n{NOTE}"]
    for name, about in MODULES.items():
        module = importlib.import_module(name)
        parts.append(f"## {name}\n\n{about}\n")
        parts.extend(_public(getattr(module, each), each) for each in FURTHER.get(name) or module.__all__)
    parts.append(
        "`guard.reward.open.open_scorer`, which loads torch, opens reward models ([rewards.md](rewards.md#scoring)).\n"
    )
    parts.append("## Errors\n\nAll are subclasses of `guard.GuardError`, in `guard.errors`.\n")
    raised = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, errors.GuardError)]
    rows = [
        (f"`{each.__name__}`", ", ".join(f"`{base.__name__}`" for base in each.__bases__), first(each.__doc__))
        for each in raised
    ]
    return "\n".join([*parts, table(("error", "is a", "raised when"), rows)])


def first(text: str | None) -> str:
    return " ".join((text or "").partition("\n\n")[0].split())


def _public(thing: Any, name: str) -> str:
    tree = ast.parse(inspect.getsource(inspect.unwrap(thing))).body[0]
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
        return f"### {name}\n\n{_signature(tree)}\n{_docstring(tree)}"
    assert isinstance(tree, ast.ClassDef)
    parts = [f"### {name}\n", _docstring(tree)]
    fields = [line for each in tree.body if (line := _field(each))]
    if fields:
        parts.append("```py\n" + "\n".join(fields) + "\n```\n")
    for each in tree.body:
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and _shown(each):
            parts.append(f"{_signature(each)}\n{_docstring(each)}")
    return "\n".join(part for part in parts if part.strip())


def _field(statement: ast.stmt) -> str:
    """A field of a dataclass, or a member of an enumeration."""
    names = [statement.target] if isinstance(statement, ast.AnnAssign) else getattr(statement, "targets", [])
    public = [each.id for each in names if isinstance(each, ast.Name) and not each.id.startswith("_")]
    return _source(statement) if public else ""


def _source(tree: ast.AST) -> str:
    """Code as ruff would format it, which formats Markdown as well."""
    return re.sub(r"'([^'\"\\]*)'", r'"\1"', ast.unparse(tree))


def _shown(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return function.name == "__init__" or not function.name.startswith("_")


def _signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The head of a function, one parameter a line if it is long."""
    marks = [_source(each) for each in function.decorator_list]
    lines = [f"@{mark}" for mark in marks if mark in ("property", "classmethod", "staticmethod")]
    returns = f" -> {_source(function.returns)}" if function.returns else ""
    start = "async def" if isinstance(function, ast.AsyncFunctionDef) else "def"
    arguments = _source(function.args)
    line = f"{start} {function.name}({arguments}){returns}"
    if len(line) > 100:
        parts = ",\n    ".join(_arguments(function.args))
        line = f"{start} {function.name}(\n    {parts},\n){returns}"
    return "```py\n" + "\n".join([*lines, line]) + "\n```\n"


def _arguments(arguments: ast.arguments) -> Iterator[str]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    for each, default in zip(positional, defaults, strict=True):
        yield _argument(each, default)
    if arguments.vararg or arguments.kwonlyargs:
        yield f"*{_source(arguments.vararg) if arguments.vararg else ''}"
    for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _argument(each, default)
    if arguments.kwarg:
        yield f"**{_source(arguments.kwarg)}"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return _source(argument)
    return f"{_source(argument)} = {_source(default)}"


def _docstring(tree: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    text = ast.get_docstring(tree)
    return f"{_angles(text)}\n" if text else ""


# gRPC.


def grpc() -> str:
    """docs/grpc.md: services, messages and enumerations of the .proto files, with their comments."""
    parts = [
        f"# gRPC API\n\n{NOTE}",
        "The interface of [`proto/guard/v1`](../proto/guard/v1). Stubs for Python are `guard.v1`; other languages make "
        "their own. [serving.md](serving.md) says how it behaves.\n",
    ]
    for described in _descriptors():
        notes = {tuple(each.path): each for each in described.source_code_info.location}
        parts.append(f"## {described.name}\n\n{_angles(_comment(notes.get((12,))))}\n")
        for index, service in enumerate(described.service):
            rows = [
                (f"`{each.name}`", _types(each), _angles(_comment(notes.get((6, index, 2, number)))))
                for number, each in enumerate(service.method)
            ]
            parts.append(f"### service {service.name}\n\n" + table(("method", "types", "meaning"), rows))
        for index, message in enumerate(described.message_type):
            about = _angles(_comment(notes.get((4, index))))
            rows = [
                (f"`{each.name}`", _field_type(message, each), str(each.number),
                 _angles(_comment(notes.get((4, index, 2, number)))))
                for number, each in enumerate(message.field)
            ]  # fmt: skip
            body = table(("field", "type", "number", "meaning"), rows) if rows else "It has no fields.\n"
            parts.append(f"### {message.name}\n\n{about}\n\n{body}" if about else f"### {message.name}\n\n{body}")
        for index, enum in enumerate(described.enum_type):
            rows = [
                (f"`{each.name}`", str(each.number), _angles(_comment(notes.get((5, index, 2, number)))))
                for number, each in enumerate(enum.value)
            ]
            about = _comment(notes.get((5, index)))
            parts.append(f"### enum {enum.name}\n\n{about}\n\n" + table(("value", "number", "meaning"), rows))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


def _descriptors() -> Iterator[descriptor_pb2.FileDescriptorProto]:
    """The project's .proto files, with their comments."""
    google = str(Path(status_pb2.__file__).parents[2])
    own = str(files("grpc_tools") / "_proto")
    names = sorted(path.relative_to(ROOT / "proto").as_posix() for path in (ROOT / "proto").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/descriptors"
        options = [f"-I{ROOT / 'proto'}", f"-I{google}", f"-I{own}", "--include_source_info"]
        if protoc.main(["protoc", *options, f"--descriptor_set_out={out}", *names]):
            raise SystemExit("protoc failed")
        found = descriptor_pb2.FileDescriptorSet.FromString(Path(out).read_bytes())
    order = {"moderation.proto": 0, "reward.proto": 1, "admin.proto": 2}
    yield from sorted(found.file, key=lambda each: order.get(Path(each.name).name, len(order)))


def _comment(place: Any) -> str:
    if place is None:
        return ""
    texts = [*place.leading_detached_comments, place.leading_comments, place.trailing_comments]
    return " ".join(" ".join(texts).split())


def _types(method: descriptor_pb2.MethodDescriptorProto) -> str:
    sent, received = (method.input_type, method.client_streaming), (method.output_type, method.server_streaming)
    return f"{_type(*sent)} → {_type(*received)}"


def _type(name: str, stream: bool) -> str:
    short = name.removeprefix(".guard.v1.").removeprefix(".")
    return f"{'stream of ' if stream else ''}`{short}`"


def _field_type(message: descriptor_pb2.DescriptorProto, field: descriptor_pb2.FieldDescriptorProto) -> str:
    kinds = descriptor_pb2.FieldDescriptorProto
    name = field.type_name.rpartition(".")[2] or kinds.Type.Name(field.type).removeprefix("TYPE_").lower()
    for nested in message.nested_type:
        if nested.name == name and nested.options.map_entry:
            return f"map of {_field_type(nested, nested.field[0])} to {_field_type(nested, nested.field[1])}"
    if field.label == kinds.LABEL_REPEATED:
        return f"list of `{name}`"
    if field.proto3_optional:
        return f"`{name}`, optional"
    if field.HasField("oneof_index"):
        return f"`{name}`, one of `{message.oneof_decl[field.oneof_index].name}`"
    return f"`{name}`"


# HTTP.


def http() -> str:
    """docs/http-api.md: the paths and bodies of the OpenAPI document that a server has at /openapi.json."""
    described = document((*TRANSLATORS, *INFO_TRANSLATORS, *REWARD_TRANSLATORS))
    parts = [
        f"# HTTP API\n\n{NOTE}",
        "The paths of `guard serve --rest-port`, as its `GET /openapi.json` describes them. "
        "[http.md](http.md) says how the formats behave.\n",
        table(
            ("path", "what"),
            [
                (f"`{verb.upper()} {path}`", each["summary"])
                for path, verbs in described["paths"].items()
                for verb, each in verbs.items()
            ],
        ),
    ]
    schemas = described["components"]["schemas"]
    for path, verbs in described["paths"].items():
        for verb, each in verbs.items():
            if verb != "post":
                continue
            body = each["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            answer = each["responses"]["200"]["content"]["application/json"]["schema"]
            parts.append(
                f"## POST {path}\n\n{each['summary']}\n\nThe body is a {_schema_link(body)}.\n\n"
                f"The answer has {_keys(answer)}.\n"
            )
    codes = {code: each["description"] for verbs in described["paths"].values() if "post" in verbs
             for code, each in verbs["post"]["responses"].items()}  # fmt: skip
    parts.append("## Status codes\n\n" + table(("status", "meaning"), sorted(codes.items())))
    parts.append("## Bodies\n")
    for name, schema in sorted(schemas.items()):
        about = " ".join(schema.get("description", "").split())
        parts.append(f"### {name}\n" + (f"\n{_angles(about)}\n" if about else ""))
        needed = schema.get("required", [])
        rows = [
            (f"`{key}`", _schema_type(each), "yes" if key in needed else "", _angles(each.get("description", "")))
            for key, each in schema.get("properties", {}).items()
        ]
        if rows:
            parts.append(table(("key", "type", "required", "meaning"), rows))
        elif "enum" in schema:
            parts.append(f"One of {', '.join(f'`{each}`' for each in schema['enum'])}.\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


def _schema_link(name: str) -> str:
    return f"[`{name}`](#{name.lower()})"


def _keys(schema: dict[str, Any]) -> str:
    keys = schema.get("properties") or schema.get("items", {}).get("properties")
    kind = "a list of objects with " if schema.get("type") == "array" and keys else ""
    return kind + ", ".join(f"`{key}`" for key in keys) if keys else "the format's own shape"


def _schema_type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _schema_link(schema["$ref"].rpartition("/")[2])
    for joined in ("anyOf", "oneOf"):
        if joined in schema:
            kinds = dict.fromkeys(_schema_type(each) for each in schema[joined] if each.get("type") != "null")
            return " or ".join(kinds) or "null"
    if schema.get("type") == "array":
        return f"list of {_schema_type(schema.get('items', {}))}"
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "anything")
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "at least"), ("maximum", "at most"))
              if key in schema]  # fmt: skip
    return ", ".join([str(kind), *bounds])


PAGES = {"cli.md": cli, "python.md": python, "grpc.md": grpc, "http-api.md": http}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCS / page).write_text(make(), encoding="utf-8")
