"""The OpenAPI document as sections for the page at /docs: read here, rendered by us, no script from anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from inkstick.web.examples import EXAMPLES

METHODS = ("get", "put", "patch", "post", "delete")


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter or a body field: where it goes (path, query, header, form, json), its type and what it means."""

    name: str
    where: str
    type: str
    required: bool
    text: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address. `answers` are status, description pairs; `returns` is the good answer's fields."""

    method: str
    path: str
    anchor: str
    summary: str
    text: str
    fields: tuple[Field, ...]
    answers: tuple[tuple[str, str], ...]
    returns: tuple[Field, ...]
    example: str


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    operations: tuple[Operation, ...]


def sections(document: Mapping[str, Any]) -> list[Section]:
    """One section per tag, in the order in which the tags first occur."""
    found: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                tag = (methods[method].get("tags") or ["other"])[0]
                found.setdefault(tag, []).append(_operation(document, method, path, methods[method]))
    return [Section(tag, tuple(operations)) for tag, operations in found.items()]


def _operation(document: Mapping[str, Any], method: str, path: str, data: Mapping[str, Any]) -> Operation:
    answers = tuple((status, answer.get("description", "")) for status, answer in data["responses"].items())
    good: Mapping[str, Any] = next(
        (answer for status, answer in data["responses"].items() if status.startswith("2")), {}
    )
    return Operation(
        method=method.upper(),
        path=path,
        anchor=data["operationId"],
        summary=data.get("summary", ""),
        text=data.get("description", ""),
        fields=(*_parameters(data), *_body(document, data)),
        answers=answers,
        returns=tuple(_properties(document, _schema(good), "json")),
        example=EXAMPLES.get((method, path), ""),
    )


def _parameters(data: Mapping[str, Any]) -> Iterator[Field]:
    for parameter in data.get("parameters", ()):
        schema = parameter.get("schema", {})
        yield Field(
            parameter["name"],
            parameter["in"],
            _type(schema),
            parameter.get("required", False),
            parameter.get("description") or schema.get("description", ""),
        )


def _body(document: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Field]:
    for media, content in data.get("requestBody", {}).get("content", {}).items():
        where = "form" if media == "multipart/form-data" else "json" if media == "application/json" else "body"
        if where == "body":
            yield Field("(body)", "body", "bytes", True, media)
        else:
            yield from _properties(document, content["schema"], where)


def _schema(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return schema


def _properties(document: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[Field]:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for name, field in schema.get("properties", {}).items():
        yield Field(name, where, _type(field), name in schema.get("required", ()), field.get("description", ""))


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    return str(schema.get("type", "value"))
