"""Asks one instance whether it is ready: by a GET on a path of it, or by connecting to its port."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Final

from pithead.backends.ports_found import LOOPBACK

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")


async def unready(port: int, path: str | None, timeout_seconds: float) -> str:
    """What is wrong, in words; empty when the instance is ready. A GET must be answered with a status of 200 to 299."""
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                return await _unready_path(reader, writer, port, path) if path is not None else ""
            finally:
                writer.close()
    except TimeoutError:
        return f"{_asked(path)} was not answered"
    except ConnectionRefusedError:
        return f"nothing listens on port {port}"
    except (OSError, ValueError) as error:
        return f"{_asked(path)}: {error}"


async def _unready_path(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, path: str) -> str:
    request = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nUser-Agent: pithead\r\nConnection: close\r\n\r\n"
    writer.write(request.encode())
    await writer.drain()
    line = await reader.readline()
    status = _STATUS.match(line)
    if status is None:
        return f"{_asked(path)} was not answered in HTTP"
    with contextlib.suppress(OSError):
        await reader.read(1024)
    return "" if status[1].startswith(b"2") else f"{_asked(path)} answered {status[1].decode()}"


def _asked(path: str | None) -> str:
    return "the connection" if path is None else f"GET {path}"
