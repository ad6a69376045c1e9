"""The options of the `process` target, one declaration for validation, schema and documentation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, WithJsonSchema

from pithead.delivery.config_values import CommandLine, PositiveDuration, Section, Variables, matching, option
from pithead.delivery.durations import Duration, parse_duration

ProbePath = Annotated[
    str,
    matching(r"/[!-~]{0,1023}", "is no path.", "Write it as /healthz, without blanks."),
    WithJsonSchema({"type": "string", "pattern": "^/[!-~]*$"}),
]


class Readiness(Section):
    """When an instance counts as ready."""

    path: ProbePath | None = option(
        "A path that a ready instance answers with a status of 200 to 299. Left out: its port must take connections.",
        default=None,
        example="/healthz",
    )
    timeout_seconds: PositiveDuration = option(
        "An instance that is not ready after this time has failed.",
        key="timeout",
        default=parse_duration("30s"),
        written="30s",
    )
    interval_seconds: PositiveDuration = option(
        "How often it is asked while it starts.", key="interval", default=parse_duration("100ms"), written="100ms"
    )


class ProcessOptions(Section):
    """How the service runs on this machine."""

    command: CommandLine = option(
        "The command line that starts one instance, run by a shell in the artifact's tree. It must stay in the "
        "foreground and listen on 127.0.0.1 at the port in $PORT, also written {port}.",
        example="./serve --port $PORT",
    )
    instances: int = option("How many instances the live artifact has.", default=2, ge=1, le=100, strict=True)
    environment: Variables = option(
        "Variables for the instances: text, `{from_env: NAME}` or `{from_file: path}`.", default_factory=dict
    )
    readiness: Readiness = Field(default_factory=Readiness, description="When an instance counts as ready.")
    port: int = option(
        "Where users reach the service on 127.0.0.1. 0: a free port, found once and then kept.",
        default=0,
        ge=0,
        le=65535,
        strict=True,
    )
    drain_seconds: Duration = option(
        "How long an instance may finish its requests after the traffic has left it.",
        key="drain",
        default=parse_duration("2s"),
        written="2s",
    )
    stop_grace_seconds: Duration = option(
        "How long an instance may take to end after SIGTERM, before it gets SIGKILL.",
        key="stop_grace",
        default=parse_duration("5s"),
        written="5s",
    )
    restart_limit: int = option(
        "An instance that is started again more often than this within a minute is failing.",
        default=5,
        ge=0,
        le=1000,
        strict=True,
    )


def recipe(command: str, environment: Mapping[str, str]) -> str:
    """Names how instances are started, so that those that were started another way are replaced. Shows no secret."""
    return hashlib.sha256(json.dumps([command, sorted(environment.items())]).encode()).hexdigest()[:16]
