"""The manifests for Kubernetes, read as kustomize builds them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from bench.capacity.autoscaler import Rules, needs_of_name
from deploy.companion.deployment import Deployment, Hosts
from deploy.companion.procfile import read_procfile
from deploy.companion.settings import ROOT
from deploy.envoy.render import EgressSettings, GatewaySettings, render_egress, render_gateway
from deploy.k8s.monitoring import rules
from deploy.k8s.needs import PROXY_THREADS
from deploy.k8s.processes import ALL_TIERS, Kind, preparations, processes, tiers
from deploy.k8s.render import HERE, files
from deploy.k8s.scaling import VOICE_ROUTES, questions_of, scales_by_cpu
from deploy.k8s.times import LEAVE_SECONDS, PROXY_DRAIN_SECONDS, WEB_DRAIN_SECONDS
from services.auth.settings import Settings as AuthSettings
from services.billing.settings import Settings as BillingSettings
from services.chat.settings import Settings as ChatSettings
from services.keyvault.settings import Settings as KeyvaultSettings
from services.voice.api.routes import routers as voice_routers
from services.voice.settings import Settings as VoiceSettings
from shared.settings import CommonSettings
from shared.settings.unknown import unknown_settings
from shared.tiers import TIERS
from tests.support.core_dumps import least_core_limit
from tests.support.k8s import (
    ALL,
    NEWEST_VERSIONS,
    OVERLAYS,
    Object,
    built,
    containers,
    environment,
    name_of,
    of_kind,
    pods,
    troubles,
)

SETTINGS: dict[str, type[CommonSettings]] = {
    "auth": AuthSettings,
    "keyvault": KeyvaultSettings,
    "chat": ChatSettings,
    "voice": VoiceSettings,
    "billing": BillingSettings,
}
SECRETS = "/run/secrets"
NAMES = {process.name for process in processes()}
ENGINES = {"postgres", "valkey", "rabbitmq"}
ENVOY_WORDS = {"--log-level", "--file-flush-interval-msec"}


# What is written down.


def test_the_committed_files_are_what_the_tables_say() -> None:
    """Else: python -m deploy.k8s.render"""
    wanted = files()
    found = {name: (HERE / name).read_text("utf-8") for name in wanted if (HERE / name).exists()}
    stale = [name for name, text in wanted.items() if found.get(name) != text]
    strays = {f"base/{path.name}" for path in (HERE / "base").glob("*.yaml")} - wanted.keys()
    assert (stale, strays) == ([], set())


def _compose() -> dict[str, Object]:
    services: dict[str, Object] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))[
        "services"
    ]
    return services


def test_processes_are_those_of_the_compose_file() -> None:
    compose = _compose()
    ours = NAMES | {job.name for job in preparations()}
    others = {name for name, one in compose.items() if _is_own(one)} - ours
    assert ours <= compose.keys()
    assert {name for name in others if not name.endswith("-config")} <= {
        "legacy",
        "tools",
        "volumes",
    }


def _is_own(service: Object) -> bool:
    return "companion/" in service.get("image", "")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_overlay_runs_every_process(overlay: str) -> None:
    found = {one["metadata"]["name"] for one in of_kind(overlay, "Deployment")}
    assert found - {"simulator"} == NAMES
    assert ("simulator" in found) == (overlay == "development")


def test_every_tier_has_its_pools_and_its_worker() -> None:
    for tier in TIERS:
        assert {f"chat-{tier}", f"voice-{tier}", f"billing-worker-{tier}"} <= NAMES


@pytest.mark.parametrize("version", NEWEST_VERSIONS)
@pytest.mark.parametrize("overlay", ALL)
def test_a_cluster_takes_every_object(overlay: str, version: str) -> None:
    assert [trouble for one in built(overlay) for trouble in troubles(one, version)] == []


def test_rules_become_what_the_operator_takes() -> None:
    found = rules()
    assert [trouble for one in found for trouble in troubles(one, NEWEST_VERSIONS[-1])] == []
    wanted = {path.stem.replace("_", "-") for path in (ROOT / "deploy/prometheus/rules").glob("*")}
    assert {one["metadata"]["name"].removeprefix("companion-") for one in found} == wanted


@pytest.mark.parametrize("overlay", ALL)
def test_no_secret_is_among_the_manifests(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")


# What pods are and may.


@pytest.mark.parametrize("overlay", ALL)
def test_no_pod_can_do_more_than_it_needs(overlay: str) -> None:
    for name, pod in pods(overlay):
        spec, security = pod["spec"], pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] == 10001, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        # It would fill the environment with variables that look like settings of ours.
        assert spec["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & spec.keys(), name
        assert all("hostPath" not in volume for volume in spec["volumes"]), name


@pytest.mark.parametrize("overlay", ALL)
def test_no_container_can_gain_or_keep_anything(overlay: str) -> None:
    for name, container in _containers(overlay):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        resources = container["resources"]
        for what in ("cpu", "memory"):
            assert _amount(resources["requests"][what]) <= _amount(resources["limits"][what]), name
        assert all("hostPort" not in port for port in container.get("ports", [])), name


@pytest.mark.parametrize("overlay", ALL)
def test_images_have_a_version(overlay: str) -> None:
    for name, container in _containers(overlay):
        _, tagged, tag = container["image"].rpartition(":")
        assert tagged and tag and "latest" not in tag, name


def test_one_place_says_which_version_runs() -> None:
    tags = {
        container["image"].rpartition(":")[2]
        for overlay in ("production-ha", "production/prepare")
        for _, container in _containers(overlay)
        if "companion/" in container["image"]
    }
    assert len(tags) == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_lasting_container_is_asked_how_it_is(overlay: str) -> None:
    for one in of_kind(overlay, "Deployment", "StatefulSet"):
        for container in one["spec"]["template"]["spec"]["containers"]:
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(), one
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                _port_of_probe_is_there(container, container[probe])


def _port_of_probe_is_there(container: Object, probe: Object) -> None:
    question = probe.get("httpGet") or probe.get("tcpSocket")
    if question:
        assert question["port"] in {port["name"] for port in container["ports"]}
    else:
        assert probe["exec"]["command"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_is_stopped_in_the_middle_of_something(overlay: str) -> None:
    for name, pod in pods(overlay):
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        container = pod["spec"]["containers"][0]
        kind = pod["metadata"]["labels"].get("kind")
        if kind == "web":
            assert container["lifecycle"]["preStop"] == {"sleep": {"seconds": LEAVE_SECONDS}}
            # And what uvicorn does not count: the internal port, and closing what is open.
            assert grace >= LEAVE_SECONDS + WEB_DRAIN_SECONDS + 10, name
        elif kind == "proxy":
            command = container["lifecycle"]["preStop"]["exec"]["command"]
            assert command[-2:] == [str(PROXY_DRAIN_SECONDS), str(LEAVE_SECONDS)]
            assert grace >= PROXY_DRAIN_SECONDS + 15, name
        else:
            assert grace >= 30, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_evictions_take_one_pod_at_a_time(overlay: str) -> None:
    budgets = {
        one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]: one["spec"]
        for one in of_kind(overlay, "PodDisruptionBudget")
    }
    assert budgets.keys() == NAMES
    assert {one["maxUnavailable"] for one in budgets.values()} == {1}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_replicas_stand_apart(overlay: str) -> None:
    for one in of_kind(overlay, "Deployment"):
        name = one["metadata"]["name"]
        if name == "simulator":
            continue
        zones, hosts = one["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert zones["topologyKey"] == "topology.kubernetes.io/zone"
        assert hosts["topologyKey"] == "kubernetes.io/hostname"
        assert (zones["whenUnsatisfiable"] == "DoNotSchedule") == (overlay == "production-ha")
        for constraint in (zones, hosts):
            selected = constraint["labelSelector"]["matchLabels"]
            assert selected == one["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_rollout_takes_nothing_away_before_it_has_given(overlay: str) -> None:
    for one in of_kind(overlay, "Deployment"):
        if one["metadata"]["name"] != "simulator":
            assert one["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


# What belongs together.


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_reference_leads_somewhere(overlay: str) -> None:
    there = {name_of(one) for one in built(overlay)}
    for name, pod in pods(overlay):
        labels = pod["metadata"]["labels"]
        for container in containers(pod):
            for source in container.get("envFrom", []):
                assert f"ConfigMap/{source['configMapRef']['name']}" in there, name
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            declared = {volume["name"] for volume in pod["spec"]["volumes"]}
            assert mounted <= declared | _claims(overlay, name), name
        for volume in pod["spec"]["volumes"]:
            if "configMap" in volume:
                assert f"ConfigMap/{volume['configMap']['name']}" in there, name
            if "secret" in volume:
                # Each has its own, and sees no other's.
                owner = name if name in ENGINES else labels["service"]
                assert volume["secret"]["secretName"] == owner, name
        if "serviceAccountName" in pod["spec"]:
            assert f"ServiceAccount/{pod['spec']['serviceAccountName']}" in there, name
            assert f"PriorityClass/{pod['spec']['priorityClassName']}" in there, name


def _claims(overlay: str, name: str) -> set[str]:
    return {
        claim["metadata"]["name"]
        for one in of_kind(overlay, "StatefulSet")
        if one["metadata"]["name"] == name
        for claim in one["spec"].get("volumeClaimTemplates", [])
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_service_leads_to_pods_that_listen_there(overlay: str) -> None:
    found = dict(pods(overlay))
    for service in of_kind(overlay, "Service"):
        selector = service["spec"]["selector"].items()
        selected = [pod for pod in found.values() if selector <= pod["metadata"]["labels"].items()]
        assert selected, name_of(service)
        for pod in selected:
            ports = {
                port["name"]: port["containerPort"]
                for port in pod["spec"]["containers"][0]["ports"]
            }
            for port in service["spec"]["ports"]:
                assert ports[port["targetPort"]] == port["port"], name_of(service)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_address_in_the_settings_is_a_service_of_ours(overlay: str) -> None:
    served = {
        (one["metadata"]["name"], port["port"])
        for one in of_kind(overlay, "Service")
        for port in one["spec"]["ports"]
    }
    address = re.compile(r"(?:http://|^)([a-z][a-z-]*):(\d{4})\b")
    told = {
        (host, int(port))
        for one in of_kind(overlay, "ConfigMap")
        for name, value in one["data"].items()
        if name.isupper()
        for host, port in address.findall(value)
    }
    told |= {
        (host, int(port))
        for _, container in _containers(overlay)
        for one in container.get("env", [])
        for host, port in address.findall(one["value"])
    }
    assert ("voice-pro", 8001) in told and ("auth-pods", 8000) in told
    assert told <= served


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_envoy_sees_each_pod_for_itself(overlay: str) -> None:
    headless = {
        one["metadata"]["name"]
        for one in of_kind(overlay, "Service")
        if one["spec"].get("clusterIP") == "None"
    }
    for proxy in ("gateway", "egress"):
        told = environment(overlay, _container(overlay, proxy))
        for name, value in told.items():
            if re.fullmatch(r"[a-z-]+:\d+", value):
                assert value.partition(":")[0] in headless, name


# Settings.


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `companion deployment create` makes, and docs/kubernetes.md puts into Secrets."""
    folder = tmp_path_factory.mktemp("deployment") / "secrets"
    Deployment(folder).create(Hosts())
    (folder / "auth" / "smtp_url").write_text("smtps://user:password@mail.example", "utf-8")
    return folder


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_process_starts_with_its_settings(
    overlay: str, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for process in processes():
        if process.kind in (Kind.PROXY, Kind.RELAY):
            continue
        told = environment(overlay, _container(overlay, process.name))
        with monkeypatch.context() as patch:
            _take(patch, told, secrets / process.service)
            settings = SETTINGS[process.service].from_environment()
        assert settings.environment == ("development" if overlay == "development" else "production")
        assert settings.sandbox == (overlay == "development")
        assert told["COMPANION_POOL"] == (process.tier.name if process.tier else ALL_TIERS)


def test_compose_tells_each_process_the_same() -> None:
    """What was tried with containers holds here."""
    # And a disk for large files, which /tmp is here.
    # Nor a tier's pace, which there is for all of a machine.
    own_host = {"TOKEN_ISSUER", "AUTH_PUBLIC_URL", "TMPDIR", "CHAT_TURNS_PER_SECOND"}
    # There whichever pool, here a Service over all of them; nobody but a web process asks.
    by_pool = {"CHAT_INTERNAL_URL", "VOICE_INTERNAL_URL"}
    compose = _compose()
    for process in processes():
        if process.kind in (Kind.PROXY, Kind.RELAY):
            continue
        there = {
            name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
            for name, value in compose[process.name]["environment"].items()
        }
        here = environment("production", _container("production", process.name))
        compared = there.keys() - own_host - (set() if process.tier else by_pool)
        for name in compared - {"AUTH_PEERS_HEALTH"}:
            assert here.get(name) == there[name], (process.name, name)
        assert compose[process.name]["command"] == _container("production", process.name)["args"]
    auth = environment("production", _container("production", "auth"))
    told = json.loads(compose["auth"]["environment"]["AUTH_PEERS_HEALTH"])
    assert json.loads(auth["AUTH_PEERS_HEALTH"]) == told


def _started_by_the_script() -> list[str]:
    """How compose's proxies start Envoy, as one that runs and not one that checks its file."""
    script = (ROOT / "deploy" / "compose" / "proxy.sh").read_text("utf-8").replace("\\\n", " ")
    [line] = [
        line
        for line in script.splitlines()
        if line.strip().startswith('"$program" --') and line.endswith("&")
    ]
    return ["envoy", *line.split()[1:-1]]


@pytest.mark.parametrize("name", ["gateway", "egress"])
def test_an_envoy_is_started_alike_everywhere(name: str) -> None:
    embedded = read_procfile(ROOT / "Procfile")[name].split()
    compose = _started_by_the_script()
    [here] = [
        container["command"]
        for pod_name, container in _containers("production")
        if pod_name == name and container["name"] == "envoy"
    ]
    told = {
        place: {word: value for word, value in pairwise(words) if word in ENVOY_WORDS}
        for place, words in {"embedded": embedded, "compose": compose, "here": here}.items()
    }
    assert told["embedded"] == told["compose"] == told["here"]
    assert told["here"].keys() == ENVOY_WORDS
    # One way or another, two of them on a machine don't share memory.
    assert "--use-dynamic-base-id" in embedded
    assert "--disable-hot-restart" in compose and "--disable-hot-restart" in here
    assert [*map(len, (embedded, compose, here[4:]))] == [10, 10, 10]


@pytest.mark.parametrize(
    ("node", "held"),
    [("ulimit -S -c 0", least_core_limit()), ("ulimit -c 0", 0)],
)
@pytest.mark.parametrize("name", ["gateway", "egress"])
def test_an_envoy_that_crashes_leaves_no_keys_behind(name: str, node: str, held: int) -> None:
    """And starts on a node whose hard limit of 0 nobody but root may raise."""
    [command] = [
        container["command"]
        for pod_name, container in _containers("production")
        if pod_name == name and container["name"] == "envoy"
    ]
    # Kubernetes makes one of two dollars.
    assert not any("$$" in word for word in command)
    # pytest's own folders are for its user alone.
    with TemporaryDirectory(prefix="envoy-") as folder:
        Path(folder).chmod(0o755)
        envoy = Path(folder) / "envoy"
        envoy.write_text("#!/bin/sh\ngrep 'core file' /proc/self/limits\necho \"$@\"\n")
        envoy.chmod(0o755)
        said = subprocess.run(
            ["bash", "-c", f'{node}; exec "$@"', "node", *command],
            env={"PATH": f"{folder}:{os.environ['PATH']}"},
            cwd="/",
            user=10001 if os.geteuid() == 0 else None,
            capture_output=True,
            text=True,
            check=True,
        )
    [limits, words] = said.stdout.splitlines()
    assert limits.split()[-3:] == [str(held), str(held), "bytes"]
    assert words.split() == command[5:]


def test_an_autoscaler_can_ask_for_more_than_a_thread_gives() -> None:
    """With one thread a proxy would never take what adds a pod."""
    for name in ("gateway", "egress"):
        rules, needs = Rules.of_shared(name), needs_of_name(name)
        assert needs.most_cores == PROXY_THREADS
        assert rules.target == pytest.approx(0.6 * needs.most_cores)


@pytest.mark.parametrize("overlay", ["development", "production"])
def test_jobs_before_a_rollout_are_told_settings(overlay: str) -> None:
    for name, container in _containers(f"{overlay}/prepare"):
        assert environment(f"{overlay}/prepare", container)["LOG_LEVEL"] == "info", name


def test_jobs_before_a_rollout_find_the_engines_that_they_prepare() -> None:
    """Where the suite brings its own they come before the Jobs, so with the foundation."""
    found = {one["metadata"]["name"] for one in of_kind("development/foundation", "StatefulSet")}
    assert found == ENGINES


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_lasting_makes_room_for_a_pool(overlay: str) -> None:
    """In a full cluster a pod without a class is the first to be evicted."""
    for one in of_kind(overlay, "Deployment", "StatefulSet"):
        chosen = one["spec"]["template"]["spec"]["priorityClassName"]
        labels = one["metadata"]["labels"]
        pool = labels.get("pool", ALL_TIERS)
        assert chosen == f"companion-{'core' if pool == ALL_TIERS else pool}", name_of(one)


def test_engines_of_a_cluster_are_set_as_those_of_compose() -> None:
    [told] = [one["data"] for one in of_kind("development", "ConfigMap") if _is_of_rabbitmq(one)]
    folder = ROOT / "deploy" / "compose"
    assert _settings_in(told["rabbitmq.conf"]) == _settings_in(
        (folder / "rabbitmq.conf").read_text("utf-8")
    )
    # Asked at the pod's address by the node, and by everybody else.
    postgres = _container("development", "postgres")["args"]
    for line in _settings_in((folder / "postgresql.conf").read_text("utf-8")):
        name, _, value = line.partition(" = ")
        if name in ("listen_addresses", "max_connections", "jit", "log_error_verbosity"):
            assert f"{name}={value.strip(chr(39))}" in postgres


def _is_of_rabbitmq(one: Object) -> bool:
    return bool(one["metadata"]["name"] == "rabbitmq")


def _settings_in(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_large_files_have_room(overlay: str) -> None:
    def room(name: str) -> str:
        [tmp] = [v for v in dict(pods(overlay))[name]["spec"]["volumes"] if v["name"] == "tmp"]
        return str(tmp["emptyDir"]["sizeLimit"])

    assert room("billing-beat") == "4Gi"
    assert {room("auth"), room("voice-free"), room("voice-pro")} == {"1Gi"}
    assert room("chat-free") == "128Mi"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_both_proxies_can_be_rendered(overlay: str) -> None:
    names = [tier.name for tier in tiers()]
    told = environment(overlay, _container(overlay, "gateway"))
    gateway = GatewaySettings.from_environment(told, names)
    assert [pool.tier for pool in gateway.pools] == names
    assert "chat-pro-pods" in render_gateway(gateway)
    told = environment(overlay, _container(overlay, "egress"))
    assert "keyvault-pods" in render_egress(EgressSettings.from_environment(told))


@pytest.mark.parametrize("overlay", ALL)
def test_every_variable_is_a_setting_that_somebody_knows(overlay: str) -> None:
    for name, container in _containers(overlay):
        if name not in ENGINES:
            assert unknown_settings(environment(overlay, container)) == {}, name


def _take(patch: pytest.MonkeyPatch, told: dict[str, str], secrets: Path) -> None:
    """The environment is this and no more, with the secrets where they are on this machine."""
    for name in list(os.environ):
        patch.delenv(name)
    for name, value in told.items():
        patch.setenv(name, value.replace(SECRETS, str(secrets)))


# Scaling.


@pytest.mark.parametrize("overlay", ["production", "production-ha"])
def test_whoever_is_scaled_is_scaled_by_one(overlay: str) -> None:
    deployments = {one["metadata"]["name"]: one for one in of_kind(overlay, "Deployment")}
    targets = [
        one["spec"]["scaleTargetRef"]["name"]
        for one in of_kind(overlay, "ScaledObject", "HorizontalPodAutoscaler")
    ]
    wanted = [one.name for one in processes() if questions_of(one) or scales_by_cpu(one)]
    assert sorted(targets) == sorted(wanted)
    assert len(targets) == len(set(targets)) and set(targets) <= deployments.keys()
    for name, one in deployments.items():
        # What `kubectl apply` says would undo what the scaler has decided.
        assert one["spec"].get("replicas") == (None if name in targets else 2), name


@pytest.mark.parametrize("overlay", ["production", "production-ha"])
def test_who_pays_is_never_served_by_one_pod_alone(overlay: str) -> None:
    for one in of_kind(overlay, "ScaledObject"):
        least, most = one["spec"]["minReplicaCount"], one["spec"]["maxReplicaCount"]
        pool = one["metadata"]["labels"]["pool"]
        assert least >= (2 if pool in ("pro", "enterprise") else 1)
        assert least < one["spec"]["fallback"]["replicas"] <= most
        assert one["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"
    for one in of_kind(overlay, "HorizontalPodAutoscaler"):
        assert 2 <= one["spec"]["minReplicas"] < one["spec"]["maxReplicas"]


@pytest.mark.parametrize("overlay", ["production", "production-ha"])
def test_what_each_turn_passes_through_has_room_for_a_burst_of_one_tier(overlay: str) -> None:
    """It is over before an autoscaler has seen it: docs/capacity.md."""
    least = {
        one["metadata"]["name"]: one["spec"]["minReplicas"]
        for one in of_kind(overlay, "HorizontalPodAutoscaler")
    }
    assert all(least[name] >= 4 for name in ("gateway", "egress", "keyvault"))


def test_a_larger_tiers_replicas_are_kept_emptier() -> None:
    targets = [
        questions_of(process)[0].target
        for process in processes()
        if process.service == "chat" and process.kind is Kind.WEB
    ]
    assert targets == sorted(targets, reverse=True) and len(set(targets)) == len(TIERS)


@pytest.mark.parametrize("overlay", ["production", "production-ha"])
def test_each_tier_scales_by_its_own_numbers(overlay: str) -> None:
    for one in of_kind(overlay, "ScaledObject"):
        name, pool = one["metadata"]["name"], one["metadata"]["labels"]["pool"]
        for trigger in one["spec"]["triggers"]:
            query = trigger["metadata"]["query"]
            named = {tier for tier in TIERS if re.search(rf"\b{tier}\b", query)}
            assert named == ({pool} - {ALL_TIERS}), name


def test_scaling_asks_for_metrics_that_there_are() -> None:
    known = _metrics_of_code() | _metrics_of_docs()
    for process in processes():
        for question in questions_of(process):
            for metric in re.findall(r"\bcompanion_\w+", question.query):
                assert metric.removesuffix("_bucket") in known, metric


def test_latency_of_voice_is_that_of_routes_that_there_are() -> None:
    paths = {str(getattr(route, "path", "")) for one in voice_routers for route in one.routes}
    assert set(VOICE_ROUTES) <= paths


@pytest.mark.parametrize("overlay", ["production", "production-ha"])
def test_prometheus_finds_every_process_under_its_own_labels(overlay: str) -> None:
    asked: dict[str, int] = dict.fromkeys(NAMES, 0)
    for monitor in of_kind(overlay, "PodMonitor"):
        kinds = monitor["spec"]["selector"]["matchExpressions"][0]["values"]
        endpoint = monitor["spec"]["podMetricsEndpoints"][0]
        labels = {one["targetLabel"] for one in endpoint["relabelings"]}
        assert {"process", "pool"} <= labels and "service" not in labels
        for name, pod in pods(overlay):
            ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
            if pod["metadata"]["labels"]["kind"] in kinds:
                assert endpoint["port"] in ports
                asked[name] += 1
    assert set(asked.values()) == {1}


def _metrics_of_code() -> set[str]:
    texts = (path.read_text("utf-8") for path in (ROOT / "shared/telemetry").glob("*.py"))
    return {name for text in texts for name in re.findall(r'"(companion_\w+)"', text)}


def _metrics_of_docs() -> set[str]:
    path = ROOT / "docs/metrics.md"
    return set(re.findall(r"\bcompanion_\w+", path.read_text("utf-8"))) if path.exists() else set()


def _containers(overlay: str) -> Iterator[tuple[str, Object]]:
    for name, pod in pods(overlay):
        for container in containers(pod):
            yield name, container


def _container(overlay: str, name: str) -> Object:
    """Who is told a process's settings: the container itself, or the one that renders them."""
    for found, container in _containers(overlay):
        if found == name:
            return container
    raise KeyError(name)


def _amount(quantity: str) -> float:
    units = {"m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30}
    number, unit = re.fullmatch(r"(\d+)(\D*)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * units.get(unit, 1)
