"""The two Envoys: rendered when their pod starts, and drained before it ends."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.k8s.calls import EGRESS_PORT, GATEWAY_PORT, PROXY_METRICS_PORT
from deploy.k8s.containers import TMP, get, locked_down, ports, probe, settings_of
from deploy.k8s.needs import PROXY_THREADS, RENDERING, needs_of
from deploy.k8s.objects import Object
from deploy.k8s.processes import GATEWAY, Process
from deploy.k8s.settings import ADMIN_PORTS, CONFIG
from deploy.k8s.times import LEAVE_SECONDS, PROXY_DRAIN_SECONDS
from deploy.k8s.versions import ENVOY_VERSION, VERSION


def renderer(process: Process) -> Object:
    """The proxy's configuration by the same template as everywhere, from the operators' image."""
    return locked_down(
        {
            "name": "render",
            "image": f"companion/tools:{VERSION}",
            "command": ["python", "-m", "deploy.envoy.render", process.name],
            "args": ["--to", _config_file(process)],
            **settings_of(process),
            "resources": RENDERING.resources,
            "volumeMounts": [
                {"name": "config", "mountPath": CONFIG},
                TMP,
            ],
        }
    )


def proxy(process: Process) -> Object:
    """Envoy itself."""
    port = GATEWAY_PORT if process == GATEWAY else EGRESS_PORT
    drain = [
        *("bash", "/drain/drain.sh", str(ADMIN_PORTS[process.name])),
        *(str(PROXY_DRAIN_SECONDS), str(LEAVE_SECONDS)),
    ]
    return locked_down(
        {
            "name": "envoy",
            "image": f"{process.image}:{ENVOY_VERSION}",
            "command": _envoy(_config_file(process)),
            "ports": ports({"http": port, "metrics": PROXY_METRICS_PORT}),
            "startupProbe": probe(get("/ready", "metrics"), every=2, timeout=2, failures=30),
            # Not /ready: one that drains is not ready, and has streams to finish.
            "livenessProbe": probe(
                {"tcpSocket": {"port": "metrics"}}, every=10, timeout=2, failures=3
            ),
            "readinessProbe": probe(get("/ready", "metrics"), every=5, timeout=2, failures=2),
            "lifecycle": {"preStop": {"exec": {"command": drain}}},
            "resources": needs_of(process).resources,
            "volumeMounts": [
                {"name": "config", "mountPath": CONFIG, "readOnly": True},
                {"name": "drain", "mountPath": "/drain", "readOnly": True},
                TMP,
            ],
        }
    )


# Every key passes through the egress. 0 would not hold where the kernel pipes dumps into a program
# (core(5)), and the shell's own `ulimit` counts in KiB. Tried first: where the node's hard limit is
# 0, only root could have 1, and Envoy would never start.
_WITHOUT_CORE_DUMPS = (
    'prlimit --core=1 true 2>/dev/null && exec prlimit --core=1 "$@"; ulimit -c 0; exec "$@"'
)


def _envoy(config: str) -> Sequence[str]:
    return [
        *("bash", "-c", _WITHOUT_CORE_DUMPS, "envoy"),
        "envoy",
        *("--config-path", config),
        *("--concurrency", str(PROXY_THREADS)),
        *("--log-level", "warning"),
        # A line of a log waits for no more than this, not for Envoy's ten seconds.
        *("--file-flush-interval-msec", "1000"),
        "--disable-hot-restart",
    ]


def _config_file(process: Process) -> str:
    return f"{CONFIG}/{process.name}.yaml"


def volumes() -> list[Object]:
    """What only a proxy's pod has."""
    return [
        {"name": "config", "emptyDir": {"sizeLimit": "4Mi"}},
        {"name": "drain", "configMap": {"name": "drain"}},
    ]
