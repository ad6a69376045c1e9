"""The JSON Schema of the configuration, with the options of the installed backends, so that editors complete them."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from pithead.console.registry import GROUP_OF, Registry
from pithead.delivery.config import SLOTS, Config, Slot
from pithead.delivery.ports import PortError

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REF: Final = "#/$defs/"


class _WithoutFieldTitles(GenerateJsonSchema):
    """A field's title is its name once more, with a capital letter."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema(registry: Registry) -> dict[str, Any]:
    """A schema of draft 2020-12. A backend that cannot be loaded takes any options in it."""
    schema = _schema_of(Config, _REF + "{model}")
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    for slot, where in SLOTS.items():
        place = schema
        for key in where:
            place = _resolved(place, definitions)["properties"][str(key)]
        place["properties"] = _backends(registry, slot, definitions)
        place["additionalProperties"] = False
    return {"$schema": DIALECT, **schema, "title": "Pithead"}


def _backends(registry: Registry, slot: Slot, definitions: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in registry.names(GROUP_OF[slot]):
        prefix = f"{slot}.{name}."
        try:
            options = _schema_of(registry.options(slot, name), f"{_REF}{prefix}{{model}}")
        except (PortError, PydanticUserError) as error:
            options = {"type": "object", "description": f"Its options are not known here: {error}"}
        definitions.update({prefix + key: value for key, value in options.pop("$defs", {}).items()})
        found[name] = {"anyOf": [options, {"type": "null"}]} if not options.get("required") else options
    return found


def _schema_of(model: type[BaseModel], ref_template: str) -> dict[str, Any]:
    return model.model_json_schema(ref_template=ref_template, schema_generator=_WithoutFieldTitles)


def _resolved(place: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = place.get("$ref")
    return definitions[reference.removeprefix(_REF)] if isinstance(reference, str) else place
