"""A Ray dashboard, as a client sees it: its address, the token that it wants, and whether it answers."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from rayforest.engine.deadline import within
from rayforest.errors import ConfigError

LIMIT_S = 15.0
"""Longest wait for the dashboard to say its version."""


@dataclass(frozen=True)
class Dashboard:
    """Where the Jobs API is, and what opens it."""

    address: str
    """http(s)://HOST:PORT, without a path."""
    host: str
    port: int
    token: str | None = field(repr=False)
    """The secret; None where there is none."""
    token_file: Path | None
    """The file that it was read from; None where it came from elsewhere, or there is none."""
    named: str = ""
    """The option of a command line that names it; its address by default."""
    elsewhere: bool = False
    """It is known to be the end of a tunnel."""

    @property
    def option(self) -> str:
        """What a user writes to mean this cluster."""
        return self.named or f"--address {self.address}"

    @classmethod
    def at(cls, address: str, *, token_file: Path | None = None, token: str | None = None) -> Dashboard:
        """Parse an address and find its token.

        Args:
            address: http://HOST:PORT or https://HOST[:PORT].
            token_file: the file with the token; by default RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token,
                the order that Ray itself has.
            token: the secret itself, instead of a file.

        Raises:
            ConfigError: the address is malformed, or the token file cannot be read.
        """
        try:
            parts = urlsplit(address)
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        except ValueError:
            parts, port = urlsplit(""), None

        more = parts.path.strip("/") or parts.query or parts.username
        if parts.scheme not in ("http", "https") or not parts.hostname or port is None or more:
            raise ConfigError(
                f"{address!r} is not the address of a Ray dashboard",
                expected="http://HOST:PORT, such as http://127.0.0.1:8265",
                next_step="`rayforest cluster status` shows the address of the local cluster",
            )
        if token is None:
            token, token_file = _find_token(token_file)
        return cls(f"{parts.scheme}://{parts.netloc}", parts.hostname, port, token, token_file)

    @property
    def is_loopback(self) -> bool:
        """Whether the address can only be reached from this machine (where a tunnel may begin)."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that show the token."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def runs_here(self) -> bool:
        """Whether a Ray dashboard process of this user listens there: not a tunnel or a container's forwarded port."""
        if self.elsewhere:
            return False
        return self.is_loopback and any(_is_dashboard(process, self.port) for process in psutil.process_iter())

    def ray_version(self) -> str:
        """Ask the dashboard for its Ray version: a check of address and token.

        Raises:
            ConfigError: nothing answers, something else than a Ray dashboard does, or the token is missing or wrong.
        """
        request = urllib.request.Request(f"{self.address}/api/version", headers=self.headers)  # noqa: S310
        # A proxy of the environment must not be asked for addresses of this machine.
        handlers = [urllib.request.ProxyHandler({})] if self.is_loopback else []
        try:
            return within(LIMIT_S, lambda: _version(urllib.request.build_opener(*handlers), request))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise self._token_error() from None
            raise self._not_a_dashboard(f"HTTP status {error.code} for /api/version") from None
        except (ValueError, KeyError, TypeError):
            raise self._not_a_dashboard("an answer to /api/version without a Ray version") from None
        except http.client.HTTPException:
            raise self._not_a_dashboard("a server that does not speak HTTP") from None
        except OSError as error:  # a TimeoutError is one, too
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            late = isinstance(reason, TimeoutError)
            said = str(getattr(reason, "strerror", None) or reason or type(reason).__name__).lower()
            raise ConfigError(
                f"nothing answers at {self.address}",
                expected="the dashboard of a running Ray cluster",
                found=f"no answer within {LIMIT_S:.0f} s" if late else said,
                next_step="start one with: rayforest cluster up; or open the tunnel to it, or correct --address"
                if self.is_loopback
                else "check the network, or correct --address",
            ) from None

    def _token_error(self) -> ConfigError:
        return ConfigError(
            f"{self.address} refuses the token" if self.token else f"{self.address} asks for a token",
            expected="the token of this cluster",
            found=f"another one in {self.token_file or 'RAY_AUTH_TOKEN'}" if self.token else "none",
            next_step="set RAY_AUTH_TOKEN_PATH to a file with the token",
        )

    def _not_a_dashboard(self, found: str) -> ConfigError:
        return ConfigError(
            f"{self.address} is not a Ray dashboard",
            expected="the dashboard's address, port 8265 by default",
            found=found,
            next_step="correct --address; `rayforest cluster status` shows the one of the local cluster",
        )


def _version(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> str:
    with opener.open(request, timeout=LIMIT_S) as answer:
        return str(json.loads(answer.read())["ray_version"])


def _find_token(token_file: Path | None) -> tuple[str | None, Path | None]:
    if token_file is None:
        if token := os.environ.get("RAY_AUTH_TOKEN"):
            return token.strip(), None
        if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
            token_file = Path(named)
        elif not (token_file := Path("~/.ray/auth_token").expanduser()).exists():
            return None, None
    try:
        return token_file.read_text(encoding="utf-8").strip(), token_file
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the token file {token_file} cannot be read",
            found=type(error).__name__,
            next_step="set RAY_AUTH_TOKEN_PATH to a file with the token",
        ) from None


def _is_dashboard(process: psutil.Process, port: int) -> bool:
    try:
        if not any(part.endswith("ray/dashboard/dashboard.py") for part in process.cmdline()):
            return False
        connections = process.net_connections(kind="tcp")
    except psutil.Error:
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)
