"""Where the config file is, and who is at the keys: what each command needs before anything else. Kept light."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from pithead.delivery.config import Config, load_config
from pithead.delivery.config_errors import ConfigError, ConfigErrors
from pithead.delivery.plain_text import plain
from pithead.delivery.secrets import reveal

CONFIG_NAME = "pithead.yaml"
CONFIG_VARIABLE = "PITHEAD_CONFIG"
LONGEST_NAME = 80


def find_config(given: str | None) -> Path:
    """The config file: the given one, else $PITHEAD_CONFIG, else `pithead.yaml` here or in a folder above."""
    name = given or os.environ.get(CONFIG_VARIABLE)
    if name:
        return Path(name).expanduser().absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / CONFIG_NAME).is_file():
            return folder / CONFIG_NAME
    missing = "There is no such file here or in a folder above."
    mend = "`pithead init` writes one for this repository; `pithead demo` shows the program without one."
    raise ConfigErrors([ConfigError(CONFIG_NAME, 0, "", missing, mend)])


def load(given: str | None) -> Config:
    return load_config(find_config(given))


def operator_of(config: Config) -> str:
    """Who the journal says it was: the config's word, else the login name and where the SSH session comes from."""
    if config.operator:
        return plain(reveal(config.operator, config.folder))[:LONGEST_NAME]
    try:
        user = os.environ.get("PITHEAD_OPERATOR") or getpass.getuser()
    except (KeyError, OSError):
        user = f"uid{os.getuid()}"
    origin = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    return plain(f"{user}@{origin}" if origin else user)[:LONGEST_NAME]
