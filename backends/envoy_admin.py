"""Envoy's admin address: what the proxy really does, and the one thing that is changed through it, the split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from pithead.backends.envoy_bootstrap import CLUSTERS, LISTENER, RUNTIME_PREFIX
from pithead.delivery.ports import BackendError

_TIMEOUT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Host:
    """One instance as a cluster of Envoy has it: how many requests it has in hand, whether it gets new ones."""

    active_requests: int
    is_draining: bool


class EnvoyAdmin:
    """A running Envoy. Every method raises BackendError when it does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def is_ready(self) -> bool:
        async with _client() as client:
            try:
                return (await client.get(f"{self.url}/ready")).status_code == 200
            except httpx.TransportError:
                return False

    async def set_split(self, split: Mapping[str, int]) -> None:
        """Both shares change in one step. In force on all of Envoy's threads within about a millisecond."""
        shares = {f"{RUNTIME_PREFIX}.{cluster}": str(share) for cluster, share in split.items()}
        await self._request("POST", "/runtime_modify", shares)

    async def split(self) -> dict[str, int]:
        """The share of each cluster that the proxy goes by now."""
        entries = (await self._request("GET", "/runtime")).json()["entries"]
        return {cluster: int(entries[f"{RUNTIME_PREFIX}.{cluster}"]["final_value"]) for cluster in CLUSTERS}

    async def hosts(self, cluster: str) -> dict[int, Host]:
        """The instances of a cluster by their ports."""
        answer = (await self._request("GET", "/clusters", {"format": "json", "filter": f"^{cluster}$"})).json()
        status = next(status for status in answer["cluster_statuses"] if status["name"] == cluster)
        return dict(_host(host) for host in status.get("host_statuses", ()))

    async def stop_listening(self) -> None:
        """No new connection is taken; those that are open finish their requests."""
        await self._request("POST", "/drain_listeners", {"graceful": "", "skip_exit": ""})

    async def active_requests(self) -> int:
        """How many requests of users are in hand."""
        name = f"http.{LISTENER}.downstream_rq_active"
        stats = (await self._request("GET", "/stats", {"format": "json", "filter": f"^{name}$"})).json()["stats"]
        return next((int(stat["value"]) for stat in stats if stat.get("name") == name), 0)

    async def _request(self, method: str, path: str, query: Mapping[str, str] | None = None) -> httpx.Response:
        async with _client() as client:
            try:
                answer = await client.request(method, self.url + path, params=query)
                answer.raise_for_status()
            except httpx.HTTPError as error:
                raise BackendError(
                    f"Envoy at {self.url} does not answer {path}: {str(error) or type(error).__name__}.",
                    "If it hangs, end it: Pithead starts it again.",
                ) from error
            return answer


def _client() -> httpx.AsyncClient:
    """Costs half a millisecond without certificates, and belongs to no event loop that may be gone next time."""
    return httpx.AsyncClient(verify=False, trust_env=False, timeout=_TIMEOUT_SECONDS)  # noqa: S501 - plain http


def _host(status: Mapping[str, Any]) -> tuple[int, Host]:
    port = int(status["address"]["socket_address"]["port_value"])
    stats = {stat["name"]: int(stat.get("value", 0)) for stat in status.get("stats", ())}
    is_draining = status.get("health_status", {}).get("eds_health_status") == "DRAINING"
    return port, Host(stats.get("rq_active", 0) + stats.get("rq_pending_active", 0), is_draining)
