"""The command line: a twin for every key. Data goes to stdout, messages to stderr.

Exit status: 0 done, 1 the release failed or was brought back, 2 bad usage or config, 3 refused, 4 a backend or the
journal could not be reached (or no runner answered), 124 a `wait` that ran out of time.

Imports stay light here: a command that is typed to stop a bad release must not wait for a library that it does not use.
"""

from __future__ import annotations

import os
import sys

import click

from pithead.console import cli_looking, cli_setup, cli_verbs  # noqa: F401 - each adds its commands to the group
from pithead.console.command_line import BAD_USAGE, DONE, UNREACHABLE, cli, leave

__all__ = ["cli", "main"]


def main() -> None:
    """The entry point of `pithead`."""
    from pithead.delivery.config_errors import ConfigErrors
    from pithead.delivery.ports import PortError

    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_USAGE)
    except ConfigErrors as errors:
        leave(str(errors), BAD_USAGE)
    except PortError as error:
        leave(str(error), UNREACHABLE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except Exception as error:
        if type(error).__name__ in ("JournalError", "LeaseLostError"):
            leave(str(error), UNREACHABLE)
        raise


if __name__ == "__main__":
    main()
