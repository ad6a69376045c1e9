"""The `archive` builder: packs a commit's tree, as it is or after a build command, into a content-addressed artifact.

An artifact is a read-only folder under the service's state folder that is named by its digest; it appears there in one
step, whole, or not at all. The same commit, built the same way, is found again without building. The newest artifacts
are kept, and so is every one that a target has pinned (`artifact_pins.py`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

from pithead.backends import archive_tree, artifact_pins
from pithead.backends.archive_tree import Listing
from pithead.backends.command_findings import command_finding
from pithead.backends.commands import GuardedCommands
from pithead.backends.finishing import in_thread
from pithead.backends.state_files import locked, read_json, write_json
from pithead.delivery.config_values import CommandLine, PositiveDuration, Section, Variables, option
from pithead.delivery.durations import format_duration, parse_duration
from pithead.delivery.plain_text import plain_line
from pithead.delivery.ports import Artifact, BackendError, CheckFailed, Command, CommandRunner, Context, Finding, Log
from pithead.delivery.private_files import make_private_folder
from pithead.delivery.secrets import reveal_all

_DIGEST: Final = re.compile("[0-9a-f]{64}")
_HALF_PACKED: Final = ".packing-"
_HALF_REMOVED: Final = ".removing-"
_ABANDONED_SECONDS: Final = 24 * 3600.0
_LITTLE_SPACE_BYTES: Final = 500 * 1024 * 1024


class ArchiveOptions(Section):
    """How an artifact comes to be."""

    command: CommandLine | None = option(
        "A command that builds, run by a shell in the commit's tree. Left out: the tree is packed as it is.",
        default=None,
        example="make build",
    )
    timeout_seconds: PositiveDuration = option(
        "After this time the command is ended and the build has failed.",
        key="timeout",
        default=parse_duration("10m"),
        written="10m",
    )
    environment: Variables = option(
        "Variables for the command: text, `{from_env: NAME}` or `{from_file: path}`.", default_factory=dict
    )
    keep: int = option(
        "How many artifacts are kept for roll-backs; those in use are kept besides.", default=20, ge=1, strict=True
    )


class ArchiveBuilder:
    """The `Builder` of the embedded data plane. `Artifact.location` is the packed tree's folder."""

    Options: ClassVar[type[ArchiveOptions]] = ArchiveOptions

    def __init__(self, options: ArchiveOptions, context: Context, commands: CommandRunner | None = None) -> None:
        self._options = options
        self._context = context
        self._commands = commands or GuardedCommands()
        self._folder = context.state_folder / "artifacts"

    async def build(self, commit: str, folder: Path, log: Log) -> Artifact:
        """CheckFailed when the command fails or the tree cannot be packed, BackendError when the disk is to blame."""
        environment = reveal_all(self._options.environment, self._context.config_folder)
        key = self._key(commit, environment)
        for name in ("index", "locks"):
            make_private_folder(self._folder / name)
        async with locked(self._folder / "locks" / f"{key[0]}.lock"):
            known = await in_thread(self._known, key)
            if known is not None:
                await log.write([f"Commit {commit[:10]} was built before: artifact {known.digest[:12]}."])
                return replace(known, commit=commit)
            await self._run_command(folder, environment, log)
            artifact = await self._pack(commit, folder, log)
            write_json(self._folder / "index" / f"{key}.json", {"digest": artifact.digest, "commit": commit})
        try:
            await in_thread(self._prune)
        except (OSError, BackendError) as error:
            await log.write([f"Old artifacts could not be removed: {error}"])
        return artifact

    async def find(self, digest: str) -> Artifact | None:
        return await in_thread(self._find, digest)

    async def check(self) -> Sequence[Finding]:
        return [await in_thread(self._check_folder), *self._check_command()]

    def _key(self, commit: str, environment: Mapping[str, str]) -> str:
        """Names what the artifact depends on. A digest, since the environment may hold secrets."""
        parts = [commit, self._options.command, sorted(environment.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def _known(self, key: str) -> Artifact | None:
        entry = read_json(self._folder / "index" / f"{key}.json")
        return self._find(str(entry["digest"])) if entry else None

    def _find(self, digest: str) -> Artifact | None:
        folder = self._folder / digest
        if not _DIGEST.fullmatch(digest) or not folder.is_dir():
            return None
        about, listing = read_json(folder / "artifact.json"), read_json(folder / "listing.json")
        if about is None or listing is None:
            return None
        tree = Listing.from_json(listing)
        if tree.digest != digest or not archive_tree.is_intact(folder / "tree", tree):
            return None
        with contextlib.suppress(OSError):
            os.utime(folder / "artifact.json")  # what is asked for stays longest
        return Artifact(digest, str(about["commit"]), str(folder / "tree"), tree.size_bytes)

    async def _run_command(self, folder: Path, environment: Mapping[str, str], log: Log) -> None:
        line = self._options.command
        if line is None:
            return
        status = await self._commands.run(Command(line, folder, self._options.timeout_seconds, environment), log)
        if status != 0:
            raise CheckFailed(
                f"The build command `{plain_line(line, 120)}` ended with exit status {status}.", "Its log says why."
            )

    async def _pack(self, commit: str, folder: Path, log: Log) -> Artifact:
        started = time.monotonic()
        digest, listing = await in_thread(self._pack_into_place, commit, folder)
        took = format_duration(time.monotonic() - started)
        size = f"{listing.file_count} files, {listing.size_bytes / 1e6:.1f} MB"
        await log.write([f"Packed {size} in {took}: artifact {digest[:12]}."])
        return Artifact(digest, commit, str(self._folder / digest / "tree"), listing.size_bytes)

    def _pack_into_place(self, commit: str, source: Path) -> tuple[str, Listing]:
        with _disk_told(self._folder), _scratch(self._folder) as packing:
            listing = archive_tree.pack(source, packing / "tree")
            write_json(packing / "listing.json", listing.to_json())
            write_json(packing / "artifact.json", _about(commit, listing))
            (packing / artifact_pins.FOLDER).mkdir(mode=0o700)
            if self._find(listing.digest) is None:
                self._put(packing, self._folder / listing.digest)
        return listing.digest, listing

    def _put(self, packing: Path, place: Path) -> None:
        """Into its place, and what is damaged there out of it. Another process that was quicker put the same there."""
        if place.exists():
            place.rename(place.with_name(f"{_HALF_REMOVED}{place.name}-{os.getpid()}"))
        try:
            packing.rename(place)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise

    def _prune(self) -> None:
        folders = [folder for folder in self._folder.iterdir() if _DIGEST.fullmatch(folder.name)]
        for folder in sorted(folders, key=_last_use, reverse=True)[self._options.keep :]:
            if not artifact_pins.is_pinned(folder):
                _remove(folder)
        self._remove_abandoned()
        for entry in (self._folder / "index").iterdir():
            if entry.suffix == ".json" and not (self._folder / str(read_json(entry)["digest"])).is_dir():
                entry.unlink(missing_ok=True)

    def _remove_abandoned(self) -> None:
        """What builds and prunings left that were killed. Young ones may still be at work."""
        for folder in self._folder.iterdir():
            is_half = folder.name.startswith((_HALF_PACKED, _HALF_REMOVED))
            if is_half and time.time() - folder.lstat().st_mtime > _ABANDONED_SECONDS:
                with contextlib.suppress(OSError):
                    archive_tree.remove(folder)

    def _check_folder(self) -> Finding:
        subject = "artifact folder"
        try:
            make_private_folder(self._folder)
            write_json(self._folder / "doctor.json", {})
            (self._folder / "doctor.json").unlink()
        except BackendError as error:
            return Finding(subject, False, error.message, error.mend)
        free = shutil.disk_usage(self._folder).free
        if free < _LITTLE_SPACE_BYTES:
            mend = "Free some space on its disk, or lower `keep`."
            return Finding(subject, False, f"{self._folder} has {free / 1e6:.0f} MB left.", mend)
        return Finding(subject, True, f"{self._folder}, {free / 1e9:.1f} GB free")

    def _check_command(self) -> Iterator[Finding]:
        if self._options.command is not None:
            yield command_finding("build command", self._options.command)


def _about(commit: str, listing: Listing) -> dict[str, Any]:
    return {
        "digest": listing.digest,
        "commit": commit,
        "size_bytes": listing.size_bytes,
        "files": listing.file_count,
        "packed_at": time.time(),
    }


def _last_use(folder: Path) -> float:
    try:
        return (folder / "artifact.json").stat().st_mtime
    except OSError:
        return 0.0


def _remove(folder: Path) -> None:
    """First out of its name, so that nobody finds half of it."""
    leaving = folder.with_name(f"{_HALF_REMOVED}{folder.name}-{os.getpid()}")
    with contextlib.suppress(OSError):
        folder.rename(leaving)
        archive_tree.remove(leaving)


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder to pack in, gone afterwards unless it was moved into its place."""
    scratch = folder / f"{_HALF_PACKED}{os.getpid()}-{time.monotonic_ns()}"
    scratch.mkdir(mode=0o700)
    try:
        yield scratch
    finally:
        if scratch.exists():
            archive_tree.remove(scratch)


@contextlib.contextmanager
def _disk_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackendError(
            f"An artifact could not be packed under {folder}: {error.strerror or error}.",
            "Free some space on its disk and check that the folder belongs to you.",
        ) from error
