"""Real git repositories for tests, made without the configuration of whoever runs them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

FIRST_COMMIT_AT = 1_700_000_000

_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


class Repository:
    """A repository with a work tree. Each commit is a minute younger than the one before it."""

    def __init__(self, path: Path, branch: str = "main") -> None:
        self.path = path
        self._minutes = 0
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", f"--initial-branch={branch}")

    def git(self, *arguments: str, stdin: bytes = b"", **environment: str) -> str:
        """What git printed, trimmed. Raises when it fails, with what it complained."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            input=stdin,
            capture_output=True,
            env={**inherited, **_ENVIRONMENT, **environment},
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"git {' '.join(arguments)}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode(errors="replace").strip()

    def commit(
        self, subject: str, body: str = "", files: Mapping[str, str | None] | None = None, author: str = "Ada"
    ) -> str:
        """Commits these files (None deletes one; by default one new file) on the branch at hand. Returns the sha."""
        for name, text in (
            {f"{subject[:40].replace('/', '-')}.txt": f"{subject}\n"} if files is None else files
        ).items():
            place = self.path / name
            if text is None:
                place.unlink()
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text)
        self.git("add", "--all")
        message = f"{subject}\n\n{body}" if body else subject
        self._record("commit", "--quiet", "--allow-empty", "--file=-", author=author, stdin=message.encode())
        return self.head()

    def raw_commit(
        self, message: bytes, author: bytes = b"Ada <ada@example.org>", headers: Sequence[bytes] = ()
    ) -> str:
        """Puts a commit with exactly this message on the branch at hand, its tree unchanged, past git's own checks."""
        parent = self.head()
        at = self._tick()
        lines = [
            b"tree " + self.git("rev-parse", "HEAD^{tree}").encode(),
            b"parent " + parent.encode(),
            b"author %s %d +0000" % (author, at),
            b"committer %s %d +0000" % (author, at),
            *headers,
        ]
        raw = b"\n".join(lines) + b"\n\n" + message
        sha = self.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=raw)
        self.git("update-ref", "HEAD", sha)
        return sha

    def commits(self, number: int) -> str:
        """Many commits at once, each changing one file. Returns the last sha."""
        self.git("fast-import", "--quiet", stdin=b"".join(self._stream(number)))
        self.git("reset", "--quiet", "--hard")
        return self.head()

    def merge(self, branch: str, subject: str = "") -> str:
        self._record("merge", "--quiet", "--no-ff", "-m", subject or f"Merge {branch}", branch)
        return self.head()

    def switch(self, branch: str, at: str | None = None) -> None:
        """Goes to a branch, or makes it at a commit."""
        self.git("checkout", "--quiet", *(("-B", branch, at) if at else (branch,)))

    def head(self, reference: str = "HEAD") -> str:
        return self.git("rev-parse", reference)

    def clone(self, path: Path, *options: str) -> Repository:
        self.git("clone", "--quiet", *options, self.path.as_uri(), str(path))
        clone = Repository.__new__(Repository)
        clone.path = path
        clone._minutes = self._minutes
        return clone

    def state(self) -> str:
        """All that belongs to the user: work tree, index, HEAD, branches, tags, worktrees, what was fetched last."""
        fetched = Path(self.git("rev-parse", "--path-format=absolute", "--git-path", "FETCH_HEAD"))
        return "\n".join(
            (
                self.git("status", "--porcelain=v2", "--branch", "--untracked-files=all", "--ignored"),
                self.git("ls-files", "--stage"),
                self.git("for-each-ref", "refs/heads", "refs/tags"),
                self.git("worktree", "list", "--porcelain"),
                self.git("stash", "list"),
                fetched.read_text() if fetched.exists() else "",
                *sorted(
                    f"{path} {path.stat().st_mtime_ns}" for path in self.path.rglob("*") if ".git" not in path.parts
                ),
            )
        )

    def _tick(self) -> int:
        self._minutes += 1
        return FIRST_COMMIT_AT + 60 * self._minutes

    def _record(self, *arguments: str, author: str = "Ada", stdin: bytes = b"") -> None:
        at = f"{self._tick()} +0000"
        self.git(*arguments, stdin=stdin, GIT_AUTHOR_DATE=at, GIT_COMMITTER_DATE=at, GIT_AUTHOR_NAME=author)

    def _stream(self, number: int) -> list[bytes]:
        branch = self.git("symbolic-ref", "HEAD").encode()
        parts = []
        for index in range(number):
            message = f"Change {index}\n\nWhy change {index} was made.\n".encode()
            parts.append(b"commit %s\ncommitter Ada <ada@example.org> %d +0000\n" % (branch, self._tick()))
            parts.append(b"data %d\n%s" % (len(message), message))
            if index == 0 and self._has_head():
                parts.append(b"from %s^0\n" % branch)
            text = f"{index}\n".encode()
            parts.append(b"M 100644 inline file%d.txt\ndata %d\n%s\n" % (index % 500, len(text), text))
        return parts

    def _has_head(self) -> bool:
        try:
            self.head("HEAD^{commit}")
        except AssertionError:
            return False
        return True
