"""A JSON schema as the engine needs it: sound before a text is written, met by the text after.

jsonschema (the extra `json`) knows the rules. References lead nowhere outside the schema itself:
nothing is fetched. Numbers are decimal on both sides, so that 0.3 is a multiple of 0.1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ...dag.errors import GenerationError, PromptError, first_line


def written(schema: Mapping[str, Any]) -> str:
    """The schema as JSON. PromptError when it cannot be."""
    try:
        return json.dumps(dict(schema), allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise PromptError(f"the JSON schema is invalid: {first_line(error)}") from error


class Schema:
    """One schema, given as JSON. PromptError when it is not one."""

    def __init__(self, text: str) -> None:
        jsonschema, registry = _jsonschema()
        self.text = text
        schema = json.loads(text)
        try:
            kind = jsonschema.validators.validator_for(
                schema, default=jsonschema.Draft202012Validator
            )
            kind.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise PromptError(
                f"the JSON schema is invalid{_place(error)}: {error.message}"
            ) from error
        except (TypeError, RecursionError) as error:
            raise PromptError(f"the JSON schema is invalid: {first_line(error)}") from error
        self._rules = kind(_read(self.text), registry=registry)
        self._invalid = jsonschema.ValidationError

    def check(self, text: str) -> None:
        """GenerationError unless the text is JSON of this schema."""
        try:
            self._rules.validate(_read(text))
        except self._invalid as error:
            raise GenerationError(
                f"the text is JSON, but not of its schema{_place(error)}: {error.message[:300]}"
            ) from error
        except (ValueError, RecursionError) as error:
            raise GenerationError(f"the text is not JSON: {first_line(error)}") from error


def _read(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def _place(error: Any) -> str:
    """Where in the value something is wrong, if not at its top."""
    return f" at {error.json_path}" if error.absolute_path else ""


def _jsonschema() -> tuple[Any, Any]:
    """The library, and a registry that fetches nothing."""
    try:
        import jsonschema
        import jsonschema.validators
        from referencing import Registry
    except ImportError as error:
        raise PromptError("JSON of a schema needs jsonschema: pip install 'plait[json]'") from error
    return jsonschema, Registry()
