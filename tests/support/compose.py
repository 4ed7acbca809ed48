"""deploy/compose.yaml without a container engine: its services as plain processes.

Each service gets its own loopback address, so that all can listen on the ports in the file. Only
container specifics are mapped: names of services become those addresses, and folders of containers
become folders of the test. Commands, environment, configuration, order and health checks come from
the file and the Dockerfile.
"""

import asyncio
import json
import re
import secrets
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.environment import CLEAN
from tests.support.steps import until
from tests.support.tools import BESIDE_PYTHON, DEPLOY, ROOT

HEALTHY_SECONDS = 60.0

WITHOUT_NOTICE = {"GATEWAY_SERVER_DRAIN_NOTICE_SECONDS": "0"}
"""No test waits for the notice of the stop."""

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<sort>[?-])(?P<text>[^}]*))?\}")


def read_compose(environ: Mapping[str, str]) -> dict[str, Any]:
    """The file with its variables filled in. Raises KeyError if a required one is missing."""

    def value(found: re.Match[str]) -> str:
        name, sort, text = found["name"], found["sort"], found["text"]
        if environ.get(name):
            return environ[name]
        if sort != "-":
            raise KeyError(f"{name}: {text}")
        return text

    text = (DEPLOY / "compose.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    read: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(value, "\n".join(lines)))
    return read


class Image:
    """How deploy/Dockerfile starts its process."""

    def __init__(self) -> None:
        text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
        last = text.rpartition("\nFROM ")[2]
        self.command = self._list(last, "ENTRYPOINT") + self._list(last, "CMD")
        self.folder = re.findall(r"^WORKDIR (.*)$", last, flags=re.MULTILINE)[-1]
        self.health = self._list(last, r"HEALTHCHECK .*? CMD")
        pairs = [
            part.partition("=")
            for line in re.findall(r"^ENV (.*)$", last, flags=re.MULTILINE)
            for part in shlex.split(line)
        ]
        self.environ = {name: value for name, _, value in pairs if name != "PATH"}

    @staticmethod
    def _list(text: str, instruction: str) -> list[str]:
        found = re.search(rf"^{instruction} (\[.*\])$", text, flags=re.MULTILINE)
        assert found, instruction
        words: list[str] = json.loads(found[1])
        return words


class Stack:
    """The services of the file, in a folder. `environ` is the content of `.env`."""

    def __init__(self, folder: Path, environ: Mapping[str, str], without: set[str]) -> None:
        self._folder = folder
        self._image = Image()
        services = read_compose(environ)["services"]
        self._services = {name: services[name] for name in services if name not in without}
        first, second = 1 + secrets.randbelow(254), 1 + secrets.randbelow(254)
        self.addresses = {
            name: f"127.{first}.{second}.{number}"
            for number, name in enumerate(self._services, start=1)
        }
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> "Stack":
        try:
            waiting = dict(self._services)
            while waiting:
                ready = [
                    name
                    for name, service in waiting.items()
                    if not waiting.keys() & service.get("depends_on", {}).keys()
                ]
                for name in ready:
                    await self._start(name, waiting.pop(name))
                await asyncio.gather(*(self._healthy(name) for name in ready))
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._stop()

    async def run(self, name: str, *command: str) -> str:
        """Run a command in a service, as `docker compose exec`. Returns its output."""
        process = await asyncio.create_subprocess_exec(
            *self._found(command),
            cwd=self._working_folder(name),
            env=self._environ(name),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), HEALTHY_SECONDS)
        assert process.returncode == 0, err.decode()
        return out.decode().strip()

    async def kill(self, name: str) -> None:
        """End a service with SIGKILL."""
        self._processes[name].kill()
        await self._processes[name].wait()

    def runs(self, name: str) -> bool:
        """Whether a service still runs."""
        return self._processes[name].returncode is None

    def log(self, name: str) -> str:
        """The output of a service so far."""
        return (self._home(name) / "log").read_text()

    async def _start(self, name: str, service: dict[str, Any]) -> None:
        home = self._home(name)
        home.mkdir()
        for mount in service.get("volumes", []):
            self._mount(name, *mount.split(":")[:2])
        with (home / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *self._command(name, service),
                cwd=self._working_folder(name),
                env=self._environ(name),
                stdout=log,
                stderr=log,
            )
        self._processes[name] = process

    async def _healthy(self, name: str) -> None:
        """Wait until the service is healthy by its own check, or listens if it has none.

        A check of 127.0.0.1 uses the service's address instead.
        """
        check = self._health(name)
        port = 8080

        async def answers() -> bool:
            if check is None:
                return await _listens(self.addresses[name], port)
            process = await asyncio.create_subprocess_exec(
                *self._found(check),
                env=self._environ(name),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            await process.communicate()
            return process.returncode == 0

        try:
            await until(answers, HEALTHY_SECONDS)
        except TimeoutError:
            raise RuntimeError(f"{name} is not healthy:\n{self.log(name)}") from None

    def _health(self, name: str) -> list[str] | None:
        service = self._services[name]
        if "build" in service:
            check = self._image.health
        elif "healthcheck" in service:
            kind, *check = service["healthcheck"]["test"]
            assert kind == "CMD"
        else:
            return None
        if check[0] == "redis-cli":
            return [check[0], "-h", self.addresses[name], *check[1:]]
        return [part.replace("127.0.0.1", self.addresses[name]) for part in check]

    def _command(self, name: str, service: dict[str, Any]) -> list[str]:
        """The process of a service, on its address and in its folder."""
        command, address = service.get("command", []), self.addresses[name]
        if "build" in service:
            command = [*self._image.command, *command]
        elif command[0] == "redis-server":
            command = [*command, "--bind", address, "--dir", str(self._home(name))]
        elif service["image"].startswith("prom/"):
            command = ["prometheus", *command, f"--web.listen-address={address}:9090"]
        return self._found([self._placed(name, part) for part in command])

    def _environ(self, name: str) -> dict[str, str]:
        service = self._services[name]
        own = {**self._image.environ, **WITHOUT_NOTICE} if "build" in service else {}
        values = {**own, **service.get("environment", {})}
        placed = {key: self._named(value) for key, value in values.items() if value}
        every = {
            key: value.replace("0.0.0.0", self.addresses[name]) for key, value in placed.items()
        }
        outside = {name: CLEAN[name] for name in ("PATH", "SSL_CERT_FILE")}
        return {**outside, "PYTHONPATH": str(ROOT), "HOME": str(self._home(name)), **every}

    def _mount(self, name: str, source: str, target: str) -> None:
        """Copy a mounted file or folder, with the other services' addresses in it."""
        place = Path(self._placed(name, target))
        place.parent.mkdir(parents=True, exist_ok=True)
        if not source.startswith("."):
            place.mkdir(exist_ok=True)  # a volume
            return
        real = DEPLOY / source
        shutil.copytree(real, place) if real.is_dir() else shutil.copy(real, place)
        for file in [place] if place.is_file() else place.rglob("*.*"):
            text = self._named(file.read_text())
            if file.name == "Caddyfile":  # it would listen on all addresses
                text = re.sub(
                    r"^(\{\$.*\{)$", rf"\1\nbind {self.addresses[name]}", text, flags=re.MULTILINE
                )
            text = re.sub(r"(_interval): \d+s", r"\1: 1s", text)  # no test waits that long
            file.write_text(text)

    def _placed(self, name: str, text: str) -> str:
        """Map a path in the container into the test's folder; other text stays."""
        home = f"{self._home(name)}"
        return re.sub(r"(?<![\w.])/(etc/|prometheus\b|data\b|srv/gateway\b)", rf"{home}/\1", text)

    def _named(self, text: str) -> str:
        """Replace names of services with their addresses."""
        names = "|".join(map(re.escape, self.addresses))
        return re.sub(rf"(?<![\w.-])({names})(?=:\d)", lambda found: self.addresses[found[1]], text)

    def _home(self, name: str) -> Path:
        return self._folder / name

    def _working_folder(self, name: str) -> str:
        built = "build" in self._services[name]
        return self._placed(name, self._image.folder) if built else str(self._home(name))

    @staticmethod
    def _found(command: list[str] | tuple[str, ...]) -> list[str]:
        beside = BESIDE_PYTHON / command[0]
        return [str(beside) if beside.exists() else command[0], *command[1:]]

    async def _stop(self) -> None:
        for process in reversed(self._processes.values()):
            if process.returncode is None:
                process.terminate()
        for process in self._processes.values():
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _listens(address: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.close()
    return True
