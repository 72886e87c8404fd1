"""One installation of the embedded default: settings, data directory and Procfile put together.

Other commands ask here for what they need: `Installation.open().addresses().database_url`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.companion import readiness
from deploy.companion.data_dir import DataDir, replace_private
from deploy.companion.engines.binaries import envoy_program, postgres_programs, valkey_program
from deploy.companion.engines.postgres import Postgres
from deploy.companion.engines.valkey import Valkey
from deploy.companion.environment import (
    Addresses,
    environment_of,
    machine_environment,
    ready_file,
    vendor_urls,
)
from deploy.companion.errors import CompanionError
from deploy.companion.ports import LOOPBACK, assign_ports, read_ports
from deploy.companion.prepare import read_passwords
from deploy.companion.previous_run import running
from deploy.companion.procfile import expand, read_procfile
from deploy.companion.programs import SERVICES, Kind, Role, instances, internal
from deploy.companion.settings import ROOT, Settings
from deploy.companion.supervision import open_files
from deploy.companion.supervision.configuration import Program, Supervisor
from deploy.envoy.gateway import MOST_CONNECTIONS
from shared.values import dataclass

# The kernel's limit for a socket's path is 108 characters on Linux and 104 on macOS.
_LONGEST_SOCKET_FOLDER = 80


@dataclass(frozen=True, slots=True)
class Installation:
    """What is installed here and how its processes are run."""

    settings: Settings
    data: DataDir
    commands: Mapping[str, str]

    @classmethod
    def open(cls, settings: Settings | None = None) -> Installation:
        """The installation that the environment names. Raises CompanionError.

        While companion runs there, it is seen as it was started, whatever this shell says of ports
        and servers.
        """
        settings = settings or Settings.from_environment()
        record = running(DataDir(settings.data_dir))
        if record is not None:
            settings = Settings.from_environment({**settings.inherited, **record.choices})
        return cls.as_said(settings)

    @classmethod
    def as_said(cls, settings: Settings) -> Installation:
        """As it is to be started: a run that is just ending says nothing of the next one's."""
        return cls(settings, DataDir(settings.data_dir), read_procfile(settings.procfile))

    @property
    def roles(self) -> list[Role]:
        """The processes to run, in the Procfile's order: all lines but those not needed."""
        unneeded = {
            "postgres": not self.settings.embeds_postgres,
            "valkey": not self.settings.embeds_valkey,
            "simulator": not self.settings.sandbox,
        }
        return [Role.of(name) for name in self.commands if not unneeded.get(name, False)]

    @property
    def services(self) -> list[str]:
        """The services whose code runs here, and so need databases and queues."""
        webs = [role for role in self.roles if role.kind is Kind.WEB]
        found = [
            role.service
            for role in webs
            if role.service is not None and f"services.{role.service}." in self.commands[role.name]
        ]
        return list(dict.fromkeys(found))

    def role(self, name: str) -> Role:
        """The process of this name. Raises CompanionError."""
        for role in self.roles:
            if role.name == name:
                return role
        known = ", ".join(role.name for role in self.roles)
        raise CompanionError(f"There is no process {name} here.", f"There are: {known}.")

    @property
    def port_book(self) -> Path:
        return self.data.run / "ports.json"

    def assign_ports(self) -> None:
        """Choose the port of each process. Only while nothing runs."""
        names = [port for role in self.roles for port in role.ports]
        assign_ports(self.port_book, names, avoid={self.settings.port})

    def ports(self) -> dict[str, int]:
        """The port of each process, by name."""
        known = read_ports(self.port_book)
        ports = {port: known.get(port, 0) for role in self.roles for port in role.ports}
        if 0 in ports.values():
            raise CompanionError("This installation has not been started yet.", "Run `make run`.")
        return {**ports, "gateway": self.settings.port}

    def postgres(self) -> Postgres:
        """The embedded PostgreSQL."""
        passwords = read_passwords(self.data)
        return Postgres(
            data=self.data.postgres,
            port=self.ports()["postgres"],
            superuser_password=passwords.postgres_superuser,
            role_password=passwords.postgres_role,
        )

    def valkey(self) -> Valkey:
        """The embedded Valkey."""
        return Valkey(
            data=self.data.valkey,
            configuration=self.data.run / "valkey.conf",
            port=self.ports()["valkey"],
            password=read_passwords(self.data).valkey,
        )

    def addresses(self) -> Addresses:
        """Where everything is reached, engines of our own and others alike."""
        settings = self.settings
        return Addresses(
            database_url=settings.database_url or self.postgres().url,
            cache_url=settings.cache_url or self.valkey().url(0),
            broker_url=settings.broker_url or self.valkey().url(1),
            ports=self.ports(),
        )

    def environment(self, role: Role) -> dict[str, str]:
        """The variables that one process gets beside those of the machine."""
        return environment_of(
            role, settings=self.settings, data=self.data, addresses=self.addresses()
        )

    def machine_environment(self) -> dict[str, str]:
        """The variables that all processes get."""
        shared = machine_environment(self.settings.inherited)
        # Programs of this Python environment (celery, …) come before others of the same name.
        path = (str(Path(sys.executable).parent), shared.get("PATH", os.defpath))
        return {**shared, "PATH": os.pathsep.join(path)}

    def program(self, role: Role) -> Program:
        """A process, ready to be run."""
        return Program(
            role=role,
            command=expand(role.name, self.commands[role.name], self._variables(role)),
            log=self.data.log(role.name),
            environment=self.environment(role),
        )

    def supervisor(self) -> Supervisor:
        """The files of supervisord."""
        return Supervisor(
            socket=self.socket_folder() / "supervisor.sock",
            pid_file=self.data.run / "supervisord.pid",
            log=self.data.log("supervisord"),
            directory=ROOT,
        )

    def socket_folder(self) -> Path:
        """A private directory whose path is short enough for sockets; the same at each call."""
        if len(str(self.data.run)) <= _LONGEST_SOCKET_FOLDER:
            return self.data.run
        digest = hashlib.sha256(str(self.data.root).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"companion-{os.geteuid()}-{digest}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
            raise CompanionError(f"{folder} is not ours.", "Delete it.")
        return folder

    def prepare_engines(self) -> None:
        """Write what the embedded engines read when they start."""
        if self.settings.embeds_postgres:
            self.postgres().prepare()
        if self.settings.embeds_valkey:
            self.valkey().prepare()

    def render_proxies(self) -> None:
        """Write the configuration of the Envoys that run here."""
        proxies = [role.name for role in self.roles if role.kind is Kind.PROXY]
        names = {name for name in proxies if "$ENVOY" in self.commands[name]}
        if not names:
            return
        from deploy.envoy.egress import EgressSettings
        from deploy.envoy.endpoints import ConfigurationRefused
        from deploy.envoy.gateway import GatewaySettings
        from deploy.envoy.render import render_egress, render_gateway
        from shared.tiers import TIERS

        environment = self._proxy_environment()
        tiers = [tier.name for tier in sorted(TIERS.values(), key=lambda tier: tier.rank)]
        try:
            if "gateway" in names:
                gateway = GatewaySettings.from_environment(environment, tiers)
                replace_private(self.data.run / "gateway.yaml", render_gateway(gateway))
            if "egress" in names:
                egress = EgressSettings.from_environment(environment)
                replace_private(self.data.run / "egress.yaml", render_egress(egress))
        except ConfigurationRefused as refused:
            raise CompanionError(f"The gateway can't be configured: {refused}.") from refused

    def probe(self, role: Role, *, thorough: bool = False, since: float = 0) -> readiness.Probe:
        """How to ask a process that was started at `since` whether it works.

        `thorough` asks for its dependencies too.
        """
        ports = self.ports()
        match role.kind:
            case Kind.POSTGRES:
                return self.postgres().is_ready
            case Kind.VALKEY:
                return self.valkey().is_ready
            case Kind.WEB:
                path = "/readyz" if thorough else "/healthz"
                return readiness.answers(ports[internal(role.name)], path)
            case Kind.WORKER | Kind.RELAY:
                file = ready_file(role, self.data)
                return readiness.says_so(file, since=since, still=thorough)
            case Kind.PROXY if role.name == "gateway" and thorough:
                return readiness.answers(self.settings.port, "/health")
            case Kind.PROXY | Kind.SIMULATOR:
                return readiness.listens(ports[role.name])
            case _:
                return readiness.always

    def asked_port(self, role: Role) -> int | None:
        """The port at which a process of ours is asked whether it works, if it has one."""
        match role.kind:
            case Kind.WEB:
                return self.ports()[internal(role.name)]
            case Kind.POSTGRES | Kind.VALKEY | Kind.PROXY | Kind.SIMULATOR:
                return self.ports()[role.name]
            case _:
                return None

    def _variables(self, role: Role) -> dict[str, str | Sequence[str]]:
        variables: dict[str, str | Sequence[str]] = {
            "RUN": str(self.data.run),
            "LOG_LEVEL": self.settings.log_level,
        }
        ports = self.ports()
        if role.name in ports:
            variables["PORT"] = str(ports[role.name])
        if internal(role.name) in ports:
            variables["INTERNAL_PORT"] = str(ports[internal(role.name)])
        if role.kind is Kind.POSTGRES:
            variables["POSTGRES"] = str(postgres_programs() / "postgres")
            variables["POSTGRES_DATA"] = str(self.data.postgres)
            variables["AS_UNPRIVILEGED_USER"] = self.postgres().prefix()
        if role.kind is Kind.VALKEY:
            variables["VALKEY"] = str(valkey_program())
        if role.kind is Kind.PROXY:
            variables["ENVOY"] = str(envoy_program())
        return variables

    def _proxy_environment(self) -> dict[str, str]:
        addresses = self.addresses()
        sockets = self.socket_folder()
        at = {name: f"{LOOPBACK}:{port}" for name, port in addresses.ports.items()}
        pools = {
            f"GATEWAY_{name.upper().replace('-', '_')}": at[name]
            for service in SERVICES
            for name in instances(service, at)
        }
        if internal("auth") in at:
            pools["GATEWAY_AUTH_INTERNAL"] = at[internal("auth")]
        return {
            **self.settings.inherited,
            "GATEWAY_MAX_CONNECTIONS": self.settings.inherited.get("GATEWAY_MAX_CONNECTIONS")
            or str(open_files.connections(MOST_CONNECTIONS)),
            **vendor_urls(self.settings, addresses),
            **pools,
            "GATEWAY_LISTEN": at["gateway"],
            "GATEWAY_ADMIN": str(sockets / "gateway.sock"),
            "EGRESS_LISTEN": at.get("egress", ""),
            "EGRESS_ADMIN": str(sockets / "egress.sock"),
            "EGRESS_KEYVAULT": at.get(internal("keyvault"), ""),
            "TOKEN_ISSUER": self.settings.token_issuer,
            "TOKEN_AUDIENCE": self.settings.token_audience,
            "CORS_ORIGINS": self.settings.cors_origins,
            "SANDBOX": "1" if self.settings.sandbox else "",
        }
