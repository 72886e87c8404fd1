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


def before(process: Process) -> Sequence[Object]:
    """What is done first, by the operators' image: the configuration is made, by the same template
    as everywhere. A gateway would start without auth's keys and count as ready all the same, so it
    waits for them: meanwhile those that it is to replace go on."""
    render = _step(
        process,
        "render",
        {
            "command": ["python", "-m", "deploy.envoy.render", process.name],
            "args": ["--to", _config_file(process)],
        },
        [{"name": "config", "mountPath": CONFIG}, TMP],
    )
    if process != GATEWAY:
        return [render]
    return [
        render,
        _step(process, "keys", {"command": ["python", "-m", "deploy.envoy.keys"]}, [TMP]),
    ]


def _step(process: Process, name: str, words: Object, mounts: Sequence[Object]) -> Object:
    return locked_down(
        {
            "name": name,
            "image": f"companion/tools:{VERSION}",
            **words,
            **settings_of(process),
            "resources": RENDERING.resources,
            "volumeMounts": list(mounts),
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
