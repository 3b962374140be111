"""What the configuration of a mode may say: the server's rules, with sentences for the terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

from cmbagent.models.choosing import MAX_NAME_CHARACTERS, ROLES

Schema = Mapping[str, Any]

_ROLE = {"enum": list(ROLES)}
_NAME = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_NAME_CHARACTERS,
    "pattern": "^[!-~]+$",
}
_ENTRIES = {"type": "object", "maxProperties": 100, "propertyNames": {"maxLength": 100}}

# of each mode, by field, as JSON Schema; a test holds it against what the server says of itself
FIELDS: dict[str, dict[str, Schema]] = {
    "one-shot": {
        "agent": {"type": "string", **_ROLE},
        "model": {"anyOf": [_NAME, {"type": "null"}]},
        "models": {"type": "object", "propertyNames": _ROLE, "additionalProperties": _NAME},
        "maxRounds": {"type": "integer", "minimum": 1, "maximum": 100},
        "maxAttempts": {"type": "integer", "minimum": 1, "maximum": 20},
        "instructions": {"type": "string", "maxLength": 8_000},
        "parameters": {**_ENTRIES, "additionalProperties": {"type": "number"}},
        "options": {**_ENTRIES, "additionalProperties": {"type": "string", "maxLength": 200}},
    }
}
_MAX_SHOWN = 60  # characters of a value that is refused


class ConfigInvalid(ValueError):
    """The text names the field and says what it may be."""


def check_config(mode: str, config: Mapping[str, Any]) -> None:
    """Raises ConfigInvalid."""
    fields = FIELDS[mode]
    for name, value in config.items():
        if name not in fields:
            raise ConfigInvalid(f"There is no config.{name}. {mode} has {', '.join(fields)}.")
        _check(f"config.{name}", value, fields[name])


def _check(place: str, value: Any, schema: Schema) -> None:
    if not _fits(value, schema):
        raise ConfigInvalid(f"{place} cannot be {_shown(value)}. It is {_described(schema)}.")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_name(place, key, schema)
            _check(f"{place}.{key}", item, schema["additionalProperties"])


def _check_name(place: str, key: str, schema: Schema) -> None:
    rule = schema["propertyNames"]
    if key not in rule.get("enum", [key]):
        raise ConfigInvalid(f"There is no {place}.{key}. {place} has {', '.join(rule['enum'])}.")
    if len(key) > rule.get("maxLength", len(key)):
        most = rule["maxLength"]
        raise ConfigInvalid(f"A name in {place} has at most {most} characters: {_shown(key)}.")


def _fits(value: Any, schema: Schema) -> bool:
    """Not what is inside an object: that is told by its own name."""
    match schema:
        case {"anyOf": alternatives}:
            return any(_fits(value, one) for one in alternatives)
        case {"enum": allowed}:
            return value in allowed
        case {"type": "integer", "minimum": least, "maximum": most}:
            return type(value) is int and least <= value <= most  # True is an int too
        case {"type": "number"}:
            return type(value) in {int, float} and abs(value) <= sys.float_info.max
        case {"type": "string"}:
            return isinstance(value, str) and _text_fits(value, schema)
        case _:
            return _is_object(value, schema) if schema["type"] == "object" else value is None


def _is_object(value: Any, schema: Schema) -> bool:
    return isinstance(value, dict) and len(value) <= schema.get("maxProperties", len(value))


def _text_fits(text: str, schema: Schema) -> bool:
    is_long_enough = schema.get("minLength", 0) <= len(text) <= schema["maxLength"]
    return is_long_enough and bool(re.fullmatch(schema.get("pattern", r"(?s:.*)"), text))


def _described(schema: Schema) -> str:
    match schema:
        case {"anyOf": alternatives}:
            return " or ".join(map(_described, alternatives))
        case {"enum": allowed}:
            return " or ".join(map(_shown, allowed))
        case {"type": "integer", "minimum": least, "maximum": most}:
            return f"a whole number from {least} to {most}"
        case {"type": "string", "maxLength": most}:
            spaceless = " without spaces" if "pattern" in schema else ""
            return f"a text{spaceless} of at most {most} characters"
        case {"type": "object", "additionalProperties": item}:
            most = f"; at most {schema['maxProperties']}" if "maxProperties" in schema else ""
            return f"an object, each of whose values is {_described(item)}{most}"
        case _:
            return {"number": "a number", "null": "null"}[schema["type"]]


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]} […]"
