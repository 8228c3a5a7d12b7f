"""Build hook: a wheel carries the top-level files that the installed library needs; simplenet/paths.py finds them."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

RESOURCES = ("config.properties", "config", "handlers", "data")


class WheelResources(BuildHookInterface):  # type: ignore[misc]
    """Copies them into simplenet/resources/, but not for an editable installation, which reads the checkout's."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds a wheel of this version: `standard` or `editable`."""
        if version == "standard":
            build_data["force_include"].update({name: f"simplenet/resources/{name}" for name in RESOURCES})
