"""Finds backends by name through entry points, the built-in ones like any stranger's, and puts them together.

Names are known without importing anything; a class is imported when the configuration names it. A plug-in that does
not fit its port is refused before it is used, with its package and what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from pithead.delivery.config import SLOTS, BackendChoice, Config, Slot, load_config
from pithead.delivery.config_errors import printable, shown, suggestion
from pithead.delivery.config_words import sentence
from pithead.delivery.ports import (
    BUILDERS,
    METRICS,
    NOTIFIERS,
    SOURCES,
    TARGETS,
    BackendError,
    Builder,
    Context,
    Metrics,
    Source,
    Target,
)
from pithead.delivery.private_files import make_private_folder

GROUP_OF: Final[Mapping[Slot, str]] = {"source": SOURCES, "builder": BUILDERS, "target": TARGETS, "metrics": METRICS}
PORT_OF: Final[Mapping[str, type]] = {SOURCES: Source, BUILDERS: Builder, TARGETS: Target, METRICS: Metrics}
GROUPS: Final = (*GROUP_OF.values(), NOTIFIERS)


class RegistryError(BackendError):
    """There is no such backend, or what bears its name cannot serve as one."""


@dataclass(frozen=True, slots=True)
class Backends:
    """The four that drive a release, ready to be asked."""

    source: Source
    builder: Builder
    target: Target
    metrics: Metrics


class Registry:
    """The installed backends. It serves as `BackendOptions` for `load_config`."""

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        """Of these entry points, or of all that are installed."""
        found = _installed() if points is None else points
        self._points: dict[tuple[str, str], list[EntryPoint]] = {}
        for point in found:
            alike = self._points.setdefault((point.group, point.name), [])
            if all(other.value != point.value for other in alike):
                alike.append(point)
        self._loaded: dict[tuple[str, str], Any] = {}

    def names(self, group: str) -> tuple[str, ...]:
        """The names in an entry-point group, sorted."""
        return tuple(sorted(name for each, name in self._points if each == group))

    def load(self, group: str, name: str) -> Any:
        """The class behind the name, checked against its port. RegistryError if there is none or it does not fit."""
        key = (group, name)
        if key not in self._loaded:
            self._loaded[key] = _fitting(self._only_point(group, name))
        return self._loaded[key]

    def options(self, slot: Slot, name: str) -> type[BaseModel]:
        """The model of that backend's options. RegistryError as for `load`."""
        model: type[BaseModel] = self.load(GROUP_OF[slot], name).Options
        return model

    def _only_point(self, group: str, name: str) -> EntryPoint:
        points = self._points.get((group, name), [])
        if not points:
            message = f"No backend of the name {shown(name)} is installed."
            raise RegistryError(message, suggestion(name, self.names(group)))
        if len(points) > 1:
            owners = " and ".join(_owner(point) for point in points)
            raise RegistryError(f"The backend {shown(name)} is there twice: from {owners}.", "Uninstall one of them.")
        return points[0]


def open_backends(config: Config, registry: Registry | None = None) -> Backends:
    """The backends that the configuration names, each with a private folder of its own below the state folder.

    RegistryError or another BackendError if one cannot be had; ConfigErrors if its options are wrong.
    """
    registry = registry or Registry()
    make_private_folder(config.state_folder())
    opened = {slot: _opened(config, registry, slot) for slot in SLOTS}
    return Backends(opened["source"], opened["builder"], opened["target"], opened["metrics"])


def _opened(config: Config, registry: Registry, slot: Slot) -> Any:
    choice = config.choice(slot)
    backend = registry.load(GROUP_OF[slot], choice.name)
    options = _checked_options(config, registry, choice, backend.Options)
    folder = make_private_folder(config.state_folder() / slot)
    try:
        return backend(options, Context(config.service, folder, config.folder))
    except BackendError:
        raise
    except Exception as error:  # a stranger's constructor may raise what it likes
        reason = sentence(str(error)) or type(error).__name__
        raise RegistryError(f"The backend {shown(choice.name)} cannot start: {reason}", "Tell its author.") from error


def _checked_options(config: Config, registry: Registry, choice: BackendChoice, model: type[BaseModel]) -> BaseModel:
    try:
        return model.model_validate(choice.options)
    except ValidationError:
        load_config(config.file, registry)  # says the same with the lines of the file
        raise RegistryError(f"The options of the backend {shown(choice.name)} are wrong.", "Try again.") from None


def _installed() -> Iterable[EntryPoint]:
    installed = entry_points()  # one walk through all packages instead of one for each group
    return (point for group in GROUPS for point in installed.select(group=group))


def _fitting(point: EntryPoint) -> Any:
    plugin = f"The backend {shown(point.name)} of {_owner(point)}"
    try:
        backend = point.load()
    except Exception as error:  # importing a stranger's module may raise anything
        reason = sentence(str(error)) or type(error).__name__
        raise RegistryError(f"{plugin} cannot be loaded: {reason}", _mend_for(point, error)) from error
    faults = tuple(_faults(backend, PORT_OF.get(point.group)))
    if faults:
        raise RegistryError(f"{plugin} does not fit its port: {', '.join(faults)}.", "Tell its author, or use another.")
    return backend


def _faults(backend: Any, port: type | None) -> Iterable[str]:
    options = getattr(backend, "Options", None)
    if not callable(backend):
        yield "it is no class"
    if not (isinstance(options, type) and issubclass(options, BaseModel)):
        yield "it has no pydantic model 'Options'"
    elif options.model_config.get("extra") != "forbid":
        yield "its 'Options' do not forbid unknown keys"
    for method in () if port is None else methods_of(port):
        if not callable(getattr(backend, method, None)):
            yield f"it has no method '{method}'"


def methods_of(port: type) -> tuple[str, ...]:
    """The names of the methods that a protocol asks for."""
    return tuple(name for name, value in vars(port).items() if not name.startswith("_") and callable(value))


def _owner(point: EntryPoint) -> str:
    if point.dist is None:
        return printable(point.value)
    return printable(f"{point.dist.name} {point.dist.version}")


def _mend_for(point: EntryPoint, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"Install what it needs: the module {printable(error.name)}."
    return f"Install it anew: pip install --force-reinstall {_owner(point).split(' ', 1)[0]}"
