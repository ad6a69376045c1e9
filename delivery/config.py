"""The configuration of a service: read from its file in one go, or refused with all that is wrong with it.

`load_config` raises nothing but `ConfigErrors`, whatever the file holds, and each error names file, line, path and
mend. The options of backends are checked in the same go by models that the caller finds; this room knows none of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol

from pydantic import AfterValidator, BaseModel, PrivateAttr, ValidationError

from pithead.delivery.config_errors import BadValueError, ConfigError, ConfigErrors, Where
from pithead.delivery.config_model import EnvironmentWord, Metrics, Pipeline, ServiceName
from pithead.delivery.config_values import Backend, BackendChoice, Section, option, without_empty
from pithead.delivery.config_words import sentence, told
from pithead.delivery.config_yaml import Document, parse
from pithead.delivery.ports import PortError
from pithead.delivery.private_files import read_regular
from pithead.delivery.secrets import Secret, SecretError, TextOrSecret, reveal, secrets_in

__all__ = ["SLOTS", "BackendChoice", "BackendOptions", "Config", "ConfigError", "ConfigErrors", "Slot", "load_config"]

LARGEST_BYTES: Final = 1024 * 1024
STATE_VARIABLE: Final = "PITHEAD_STATE"

Slot = Literal["source", "builder", "target", "metrics"]
SLOTS: Final[Mapping[Slot, Where]] = {
    "source": ("source",),
    "builder": ("pipeline", "build"),
    "target": ("target",),
    "metrics": ("metrics", "source"),
}
"""Where the configuration names a backend."""


class BackendOptions(Protocol):
    """Whoever knows the installed backends."""

    def options(self, slot: Slot, name: str) -> type[BaseModel]:
        """The model of that backend's options. PortError if there is no such backend or it is broken."""


_URL: Final = re.compile(r"([a-z0-9]+)(\+[a-z0-9_]+)?://(.*)")
_PASSWORD: Final = re.compile(r"://[^:/@]*:[^@]+@|[?&]password=", re.IGNORECASE)
_URL_FORMS: Final = "Write sqlite:////folder/journal.db, or {from_env: NAME} that holds the URL of a database."


def _open_url(url: str | Secret | None) -> str | Secret | None:
    if not isinstance(url, str):
        return url
    if _PASSWORD.search(url):
        mend = "Put the URL into an environment variable and write {from_env: PITHEAD_JOURNAL}."
        raise BadValueError("A password stands in the URL.", mend)
    _usable_url(url)
    return url


def _usable_url(url: str) -> tuple[str, str]:
    """What is before `://` and what is behind it. The URL is not repeated in the error: it may hold a password."""
    match = _URL.fullmatch(url)
    if match is None:
        raise BadValueError("This is not the URL of a database.", _URL_FORMS)
    scheme, driver, rest = match.groups()
    if scheme == "sqlite" and rest.split("?")[0] in ("", "/", "/:memory:"):
        raise BadValueError("A journal in memory cannot be shared.", _URL_FORMS)
    return scheme + (driver or ""), rest


class Journal(Section):
    """Where the events are kept."""

    url: Annotated[TextOrSecret | None, AfterValidator(_open_url)] = option(
        "The database, as an SQLAlchemy URL without a password, or a reference to it. "
        "Left out: a private SQLite file in the state folder of this user.",
        default=None,
    )


class Config(Section):
    """All that Pithead is told about one service."""

    service: ServiceName = option("What is released.", example="checkout")
    environment: EnvironmentWord | None = option(
        "A word for the top line, such as staging; `production` is shown loudly.", default=None
    )
    source: Backend = option("Where the commits come from.", example={"git": {"branch": "main"}})
    pipeline: Pipeline = option("What a release goes through.", example={"build": {"archive": {}}})
    target: Backend = option("Where the service runs.", example={"process": {"command": "./serve --port $PORT"}})
    metrics: Metrics = option("What the canary is judged by.", example={"source": {"envoy": {}}})
    journal: Journal = option("Where the events are kept.", default_factory=Journal)
    operator: TextOrSecret | None = option(
        "Who is named in the journal: text, or `{from_env: NAME}`. Left out: the user who is logged in.", default=None
    )
    _file: Path = PrivateAttr(default=Path("config.yaml"))

    @property
    def file(self) -> Path:
        """The absolute path of the file that this was read from."""
        return self._file

    @property
    def folder(self) -> Path:
        """Where the file is: relative paths in it start here."""
        return self._file.parent

    @property
    def builder(self) -> BackendChoice:
        return self.pipeline.build

    @property
    def metrics_source(self) -> BackendChoice:
        return self.metrics.source

    def choice(self, slot: Slot) -> BackendChoice:
        """The backend in that slot."""
        match slot:
            case "source":
                return self.source
            case "builder":
                return self.builder
            case "target":
                return self.target
            case "metrics":
                return self.metrics_source

    def state_folder(self) -> Path:
        """Where Pithead keeps what belongs to this service. It may not exist yet; whoever makes it makes it private."""
        root = os.environ.get(STATE_VARIABLE)
        if root is None or not root.strip():
            from platformdirs import user_state_path

            return user_state_path("pithead", appauthor=False) / self.service
        folder = Path(root)
        if not folder.is_absolute():
            # The runner stands in another folder than the console, so each would find its own.
            raise ConfigErrors([ConfigError(STATE_VARIABLE, 0, "", "It is not an absolute path.", "Start it with /.")])
        return folder / self.service

    def journal_url(self) -> str:
        """The database's URL with its references looked up. SecretError if one leads nowhere."""
        if self.journal.url is None:
            return _sqlite_url("sqlite", self.state_folder() / "journal.db")
        url = reveal(self.journal.url, self.folder)
        try:
            scheme, rest = _usable_url(url)
        except BadValueError as error:
            raise SecretError(f"journal.url: {error.message}", error.mend) from None
        path, *query = rest.split("?", 1)
        if not scheme.startswith("sqlite") or path.startswith("//"):
            return url
        return "?".join([_sqlite_url(scheme, self.folder / path.removeprefix("/")), *query])

    def secrets(self) -> tuple[Secret, ...]:
        """Every reference to a secret in it, those in the options of backends included, for masking."""
        variables = (test.environment for test in self.pipeline.tests)
        options = (self.choice(slot).options for slot in SLOTS)
        watched = (metric.options for metric in self.metrics.watched)
        return tuple(dict.fromkeys(secrets_in([*variables, *options, *watched, self.journal.url])))


def load_config(path: Path, backends: BackendOptions | None = None) -> Config:
    """The configuration in the file, checked as a whole. ConfigErrors tells all that is wrong, by line."""
    return read_config(_text_of(path), path, backends)


def read_config(text: str, path: Path, backends: BackendOptions | None = None) -> Config:
    """The same for text that stands, or is going to stand, in the file at `path`."""
    document = parse(text, str(path))
    problems = list(document.problems)
    config: Config | None = None
    try:
        config = Config.model_validate(document.value)
    except ValidationError as error:
        problems.extend(told(error, Config, document))
    if backends is not None:
        problems.extend(_backend_problems(document, backends))
    if config is None or problems:
        raise ConfigErrors(problem for problem in problems if not document.is_echo(problem))
    config._file = path.absolute()
    return config


def _backend_problems(document: Document, backends: BackendOptions) -> Iterator[ConfigError]:
    for slot, where in SLOTS.items():
        written = document.value_at(where)
        if isinstance(written, dict) and len(written) == 1:
            name, options = next(iter(written.items()))
            if options is None or isinstance(options, dict):
                yield from _option_problems(document, backends, slot, name, options or {})


def _option_problems(
    document: Document, backends: BackendOptions, slot: Slot, name: str, options: dict[str, Any]
) -> Iterator[ConfigError]:
    where = (*SLOTS[slot], name)
    try:
        model = backends.options(slot, name)
    except PortError as error:
        yield document.error(where, error.message, error.mend, at_key=True)
        return
    try:
        model.model_validate(without_empty(options))
    except ValidationError as error:
        yield from told(error, model, document, where)
    except Exception as error:  # a stranger's validator may raise what it likes
        message = f"The backend fails to check its options: {sentence(str(error)) or type(error).__name__}"
        yield document.error(where, message, "Tell its author.", at_key=True)


def _sqlite_url(scheme: str, path: Path) -> str:
    if "%" not in str(path) and "?" not in str(path):
        return f"{scheme}:///{path}"
    from sqlalchemy import URL  # which versions of it unquote a path, only it can know

    return URL.create(scheme, database=str(path)).render_as_string(hide_password=False)


def _text_of(path: Path) -> str:
    def unusable(message: str, mend: str, line: int = 0) -> ConfigErrors:
        return ConfigErrors([ConfigError(str(path), line, "", message, mend)])

    try:
        data, _ = read_regular(path, LARGEST_BYTES)
    except FileNotFoundError:
        raise unusable("There is no such file.", "`pithead init` writes one.") from None
    except IsADirectoryError:
        raise unusable("This is a folder.", "Name the file in it.") from None
    except PermissionError:
        raise unusable("The file may not be read by this user.", f"chmod u+r {path}") from None
    except OSError as error:
        raise unusable(f"The file cannot be read: {error.strerror or 'not a file'}.", "Name a regular file.") from None
    except ValueError:
        raise unusable("This cannot be the name of a file.", "Name a regular file.") from None
    if len(data) > LARGEST_BYTES:
        raise unusable("The file is larger than 1 MiB.", "Is it the right file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise unusable("The file is not UTF-8 text.", "Save it as UTF-8.", line) from None
