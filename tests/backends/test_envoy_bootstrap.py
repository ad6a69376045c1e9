"""Envoy's configuration is one that this very Envoy accepts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from pithead.backends.envoy_bootstrap import CLUSTERS, Endpoint, bootstrap, endpoints, endpoints_file
from pithead.backends.envoy_proxy import envoy_binary


def test_envoy_accepts_the_configuration_and_calls_nothing_deprecated(tmp_path: Path) -> None:
    for cluster in CLUSTERS:
        listed = endpoints(cluster, [Endpoint(1), Endpoint(2, is_draining=True)])
        endpoints_file(tmp_path, cluster).write_text(json.dumps(listed))
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(bootstrap(20_000, tmp_path, {"slot_a": 90, "slot_b": 10})))
    told = subprocess.run(
        [envoy_binary(), "--mode", "validate", "-c", file], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert "eprecated" not in told.stderr


def test_the_split_is_the_configurations_own_until_it_is_changed(tmp_path: Path) -> None:
    layers = bootstrap(20_000, tmp_path, {"slot_a": 90, "slot_b": 10})["layered_runtime"]["layers"]
    assert layers[0]["static_layer"] == {"pithead.split.slot_a": 90, "pithead.split.slot_b": 10}
