"""Backends are found by name, a stranger's like our own, and what does not fit its port is refused before it is used."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from textwrap import dedent

import pytest

from pithead.console.registry import GROUPS, Backends, Registry, RegistryError, methods_of, open_backends
from pithead.delivery.config import Config, ConfigErrors, load_config
from pithead.delivery.ports import BUILDERS, METRICS, SOURCES, TARGETS, Builder, Source

CODE = """
from pydantic import BaseModel, ConfigDict
from pithead.delivery.ports import BackendError

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    where: str = "here"

class Loose(BaseModel):
    where: str = "here"

class Base:
    Options = Options
    def __init__(self, options, context):
        if options.where == "nowhere":
            raise BackendError("nowhere is no place.", "Choose another.")
        if options.where == "crash":
            raise RuntimeError("crashed\\x1b[2J")
        self.options, self.context = options, context
    async def check(self): return ()

class Source(Base):
    async def head(self): ...
    async def commits(self, base, head): ...
    async def changes(self, sha): ...
    async def resolve(self, name): ...
    def checkout(self, sha): ...
    def watch(self): ...

class HalfSource(Base):
    async def head(self): ...
    commits = 5

class LooseSource(Source):
    Options = Loose

class PlainSource(Source):
    Options = dict

class Builder(Base):
    async def build(self, commit, folder, log): ...
    async def find(self, digest): ...

class Target(Base):
    async def apply(self, desired, log): ...
    async def observe(self): ...
    def watch(self): ...

class Metrics(Base):
    async def scrape(self, arms, metrics): ...

a_number = 5
"""

ENTRY_POINTS = """
[pithead.sources]
fake = {module}:Source
half = {module}:HalfSource
loose = {module}:LooseSource
plain = {module}:PlainSource
number = {module}:a_number
absent = {module}:Nobody
needy = {module}_needy:Source
raising = {module}_raising:Source
[pithead.builders]
fake = {module}:Builder
[pithead.targets]
fake = {module}:Target
[pithead.metrics]
fake = {module}:Metrics
"""


def install(folder: Path, name: str, version: str, entry_points: str, modules: dict[str, str]) -> None:
    """Puts a distribution into the folder, as pip would."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points)
    for module, code in modules.items():
        (folder / f"{module}.py").write_text(dedent(code))


def registry_of(folder: Path) -> Registry:
    return Registry(point for found in distributions(path=[str(folder)]) for point in found.entry_points)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    module = "pithead_test_plugin"
    folder = tmp_path / "site"
    install(
        folder,
        "stranger",
        "1.2",
        ENTRY_POINTS.format(module=module),
        {
            module: CODE,
            f"{module}_needy": "import pithead_test_missing",
            f"{module}_raising": "raise OSError('no licence')",
        },
    )
    monkeypatch.syspath_prepend(str(folder))
    for name in (module, f"{module}_needy", f"{module}_raising"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return registry_of(folder)


CONFIG = """\
service: checkout
source: {fake: {where: SOURCE}}
pipeline: {build: {fake: {}}}
target: {fake: }
metrics: {source: {fake: {}}}
"""


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PITHEAD_STATE", str(tmp_path / "state"))
    file = tmp_path / "repository" / "pithead.yaml"
    file.parent.mkdir()
    file.write_text(CONFIG)
    return file


def test_names_are_known_without_importing_anything(registry: Registry) -> None:
    assert registry.names(SOURCES) == ("absent", "fake", "half", "loose", "needy", "number", "plain", "raising")
    assert registry.names(METRICS) == ("fake",)
    assert "pithead_test_plugin" not in sys.modules


def test_our_own_backends_are_found_the_same_way() -> None:
    installed = Registry()
    assert {"git"} <= set(installed.names(SOURCES))
    assert {"archive"} <= set(installed.names(BUILDERS))
    assert {"process"} <= set(installed.names(TARGETS))
    assert {"envoy"} <= set(installed.names(METRICS))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fakee", "No backend of the name 'fakee' is installed. Did you mean 'fake'?"),
        ("zzz", "Known here: absent, fake, half"),
        ("half", "The backend 'half' of stranger 1.2 does not fit its port: it has no method 'commits', it has no method"),
        ("loose", "stranger 1.2 does not fit its port: its 'Options' do not forbid unknown keys."),
        ("plain", "it has no pydantic model 'Options'."),
        ("number", "it is no class, it has no pydantic model 'Options', it has no method 'head'"),
        ("absent", "The backend 'absent' of stranger 1.2 cannot be loaded: Module 'pithead_test_plugin' has no attribute"),
        ("needy", "Install what it needs: the module pithead_test_missing."),
        ("raising", "cannot be loaded: No licence. Install it anew: pip install --force-reinstall stranger"),
    ],
)  # fmt: skip
def test_what_cannot_serve_as_a_backend_is_named_with_what_it_lacks(registry: Registry, name: str, says: str) -> None:
    with pytest.raises(RegistryError) as refused:
        registry.load(SOURCES, name)
    assert says in str(refused.value)


def test_two_packages_with_the_same_name_are_refused(registry: Registry, tmp_path: Path) -> None:
    install(tmp_path / "site", "other", "3.4", "[pithead.sources]\nfake = other:Source\n", {})
    twice = registry_of(tmp_path / "site")
    with pytest.raises(
        RegistryError, match=r"'fake' is there twice: from .*other 3\.4.*Uninstall one of them"
    ) as refused:
        twice.load(SOURCES, "fake")
    assert "stranger 1.2" in str(refused.value)
    assert twice.load(BUILDERS, "fake").__name__ == "Builder"


def test_the_same_package_found_twice_counts_once(registry: Registry, tmp_path: Path) -> None:
    points = [point for found in distributions(path=[str(tmp_path / "site")]) for point in found.entry_points]
    assert Registry([*points, *points]).load(SOURCES, "fake").__name__ == "Source"


def test_a_port_asks_for_its_public_methods() -> None:
    assert methods_of(Builder) == ("build", "find", "check")
    assert set(methods_of(Source)) == {"head", "commits", "changes", "resolve", "checkout", "watch", "check"}


def test_backends_are_opened_with_private_folders_of_their_own(
    registry: Registry, config_file: Path, tmp_path: Path
) -> None:
    config = load_config(config_file, registry)
    backends = open_backends(config, registry)
    assert isinstance(backends, Backends)
    for slot in ("source", "builder", "target", "metrics"):
        context = getattr(backends, slot).context
        assert context.service == "checkout"
        assert context.config_folder == config_file.parent
        assert context.state_folder == tmp_path / "state" / "checkout" / slot
        assert context.state_folder.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "checkout").stat().st_mode & 0o777 == 0o700
    assert backends.source.options.where == "SOURCE"  # type: ignore[attr-defined]


def test_options_are_checked_with_file_and_line_while_the_configuration_is_loaded(
    registry: Registry, config_file: Path
) -> None:
    config_file.write_text(CONFIG.replace("where: SOURCE", "wher: x").replace("build: {fake", "build: {fale"))
    with pytest.raises(ConfigErrors) as refused:
        load_config(config_file, registry)
    assert [str(error).removeprefix(str(config_file)) for error in refused.value.errors] == [
        ":2: source.fake.wher: Unknown key. Did you mean 'where'?",
        ":3: pipeline.build.fale: No backend of the name 'fale' is installed. Did you mean 'fake'?",
    ]


def test_options_that_nobody_checked_are_refused_before_a_backend_is_opened(
    registry: Registry, config_file: Path
) -> None:
    config_file.write_text(CONFIG.replace("where: SOURCE", "where: 5"))
    unchecked: Config = load_config(config_file)
    with pytest.raises(ConfigErrors, match=r":2: source\.fake\.where: Expected text, found 5\."):
        open_backends(unchecked, registry)


def test_a_backend_that_cannot_start_says_why(registry: Registry, config_file: Path) -> None:
    config_file.write_text(CONFIG.replace("SOURCE", "nowhere"))
    with pytest.raises(Exception, match=r"nowhere is no place\. Choose another\."):
        open_backends(load_config(config_file), registry)
    config_file.write_text(CONFIG.replace("SOURCE", "crash"))
    with pytest.raises(RegistryError, match=r"The backend 'fake' cannot start: Crashed \[2J\. Tell its author\."):
        open_backends(load_config(config_file), registry)


def test_looking_for_names_imports_no_client_library() -> None:
    program = (
        "import sys\n"
        "from pithead.console.registry import GROUPS, Registry\n"
        "assert [Registry().names(group) for group in GROUPS]\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"textual", "docker", "kubernetes", "numpy", "git", "httpx", "sqlalchemy", "pithead.backends"}
    assert not heavy & set(done.stdout.split())
    assert len(GROUPS) == 5
