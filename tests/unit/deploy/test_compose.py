"""docker-compose.yml runs all of the suite, each process as closed in as it can be."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.companion.compose_settings import FILES
from deploy.companion.deployment import Deployment
from deploy.companion.programs import POOLED, PROXIES, SERVICES
from deploy.envoy.endpoints import Endpoint
from services.chat.settings import Settings as ChatSettings
from shared.tiers import TIERS

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "compose"
ENGINES = {
    "postgres": "POSTGRES_IMAGE",
    "valkey": "VALKEY_IMAGE",
    "rabbitmq": "RABBITMQ_IMAGE",
    "gateway": "ENVOY_IMAGE",
    "egress": "ENVOY_IMAGE",
    "envoy": "ENVOY_IMAGE",
    "prometheus": "PROMETHEUS_IMAGE",
    "grafana": "GRAFANA_IMAGE",
    "legacy": "LEGACY_IMAGE",
}
JOBS = {"volumes", "gateway-config", "egress-config", "tools"} | {f"{s}-prepare" for s in SERVICES}
OF_BILLING = {
    "billing": [f"billing-files:{FILES}:ro"],
    "billing-beat": ["exports:/exports", f"billing-files:{FILES}"],
}
SECRET = re.compile(
    r"PASSWORD|SECRET(?!S$)|API_KEY|(?<!CHECKS_)TOKEN(?!_ISSUER|_AUDIENCE)|(DATABASE|CACHE|BROKER)_URL"
)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


COMPOSE: Mapping[str, Any] = read(ROOT / "docker-compose.yml")
SANDBOX: Mapping[str, Any] = read(FOLDER / "sandbox.yml")
THREE: Mapping[str, Any] = read(FOLDER / "three-rabbitmq.yml")
CONTAINERS: Mapping[str, Any] = COMPOSE["services"]
ADDED = {
    name: service
    for override in (SANDBOX, THREE)
    for name, service in override["services"].items()
    if name not in CONTAINERS
}
ALL: Mapping[str, Any] = {**CONTAINERS, **ADDED}
LASTING = sorted(set(ALL) - JOBS)


def environment(name: str) -> Mapping[str, str]:
    found: Mapping[str, str] = ALL[name].get("environment", {})
    return found


def networks(name: str) -> set[str]:
    return set(ALL[name].get("networks", ()))


def on(network: str) -> set[str]:
    return {name for name in ALL if network in networks(name)}


def webs(service: str) -> list[str]:
    return [f"{service}-{tier}" for tier in TIERS] if service in POOLED else [service]


def processes() -> Iterator[str]:
    for service in SERVICES:
        yield from webs(service)
        tiers = TIERS if service == "billing" else ()
        yield from [f"{service}-worker-{tier}" for tier in tiers] or [f"{service}-worker"]
        yield from (f"{service}-{role}" for role in ("beat", "relay", "prepare"))


def family(service: str) -> set[str]:
    return {name for name in ALL if name == service or name.startswith(f"{service}-")}


def test_everything_that_the_suite_consists_of_is_there() -> None:
    expected = {*processes(), *ENGINES, *JOBS}
    assert set(CONTAINERS) == expected
    assert set(ADDED) == {"simulator", "rabbitmq-2", "rabbitmq-3"}


def test_profiles_add_to_what_always_runs() -> None:
    profiles = {name: service["profiles"] for name, service in ALL.items() if "profiles" in service}
    assert profiles == {
        "prometheus": ["observability"],
        "grafana": ["observability"],
        "legacy": ["legacy"],
        "tools": ["tools"],
    }


def test_only_the_gateway_has_a_port_of_the_machine() -> None:
    published = {name for name, service in ALL.items() if service.get("ports")}
    assert published == {"gateway"}
    (port,) = CONTAINERS["gateway"]["ports"]
    assert port == "${COMPANION_BIND:-127.0.0.1}:${PORT:-8080}:8080"


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_container_can_do_no_more_than_it_must(name: str) -> None:
    service = ALL[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["ulimits"] == {"core": 1}
    assert any(mount.startswith("/tmp:") for mount in service["tmpfs"])
    assert service["init"] is True
    assert "container_name" not in service, "nothing that has a name can be scaled"
    if name == "volumes":
        # It alone is root, hands volumes over and sees no network.
        assert service["cap_add"] == ["CHOWN"]
        assert service["network_mode"] == "none"
    else:
        assert service["user"] == "${COMPANION_UID:-10001}:${COMPANION_GID:-10001}"
        assert "cap_add" not in service


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_container_has_limits(name: str) -> None:
    limits = ALL[name]["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    assert ALL[name]["logging"]["options"].keys() == {"max-size", "max-file"}


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_comes_back_says_how_it_is_and_may_end_in_peace(name: str) -> None:
    service = ALL[name]
    assert service["restart"] == "unless-stopped"
    assert service["stop_grace_period"]
    if name != "legacy":  # its image says how it is asked
        assert service["healthcheck"]["test"]


def test_up_sees_each_soon_and_at_rest_the_engine_starts_few_probes() -> None:
    checks = {name: service.get("healthcheck", {}) for name, service in CONTAINERS.items()}
    pauses = [
        int(one["interval"].removesuffix("s")) for one in checks.values() if "interval" in one
    ]
    assert len(pauses) > 30
    # An engine asks for the first time when one is over; each question costs it some 34 CPU-ms.
    assert max(pauses) <= 15
    assert sum(1 / seconds for seconds in pauses) < 3


@pytest.mark.parametrize("name", sorted(JOBS))
def test_a_job_ends(name: str) -> None:
    assert CONTAINERS[name]["restart"] == "no"


def test_a_web_process_may_drain() -> None:
    for service in SERVICES:
        assert {CONTAINERS[web]["stop_grace_period"] for web in webs(service)} == {"40s"}


@pytest.mark.parametrize("name", sorted(ALL))
def test_no_secret_stands_in_an_environment(name: str) -> None:
    for variable, value in environment(name).items():
        if SECRET.search(variable):
            assert variable.endswith("_FILE"), f"{variable} belongs into a file"
            assert value.startswith(("/run/secrets/", "/secrets/operator/"))
        assert "@" not in str(value)


def test_images_are_chosen_by_variables() -> None:
    for name, variable in ENGINES.items():
        assert re.fullmatch(rf"\${{{variable}:-[^}}]+:[^}}]+}}", CONTAINERS[name]["image"]), name
    for name in set(ALL) - set(ENGINES) - set(THREE["services"]):
        assert re.fullmatch(
            r"\$\{COMPANION_REGISTRY:-\}companion/[a-z]+:\$\{COMPANION_VERSION:-dev\}",
            ALL[name]["image"],
        ), name


def test_envoy_is_new_enough() -> None:
    found = re.search(r"envoy:v1\.(\d+)", CONTAINERS["gateway"]["image"])
    assert found is not None
    assert int(found[1]) >= 40


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_its_own_image_with_its_own_secrets(service: str) -> None:
    for name in family(service):
        image = f"${{COMPANION_REGISTRY:-}}companion/{service}:${{COMPANION_VERSION:-dev}}"
        assert CONTAINERS[name]["image"] == image
        secrets, *files = CONTAINERS[name]["volumes"]
        assert secrets == f"${{COMPANION_SECRETS:-./secrets}}/{service}:/run/secrets:ro"
        assert files == OF_BILLING.get(name, [])


def test_a_day_of_usage_is_exported_by_way_of_the_disk() -> None:
    assert environment("billing-beat")["TMPDIR"] == "/exports"


def test_what_billing_keeps_in_files_outlives_its_containers() -> None:
    """A day that has left the ledger is in its file alone."""
    mounted = {name for name, one in ALL.items() if f"billing-files:{FILES}" in str(one)}
    assert mounted == {"billing", "billing-beat", "tools"}
    assert f"billing-files:{FILES}" in CONTAINERS["tools"]["volumes"]
    for page in ("compose.md", "settings.md"):
        assert f"`{FILES}`" in (ROOT / "docs" / page).read_text("utf-8")


def test_every_volume_is_handed_over() -> None:
    handed_over = {mount.partition(":")[0] for mount in CONTAINERS["volumes"]["volumes"]}
    assert handed_over == COMPOSE["volumes"].keys()
    for mount in CONTAINERS["volumes"]["volumes"]:
        name, _, place = mount.partition(":")
        assert place == f"/volumes/{name}"


@pytest.mark.parametrize(
    ("name", "least"), [("auth", 512), ("voice-free", 320), ("voice-pro", 320)]
)
def test_what_people_send_or_ask_for_has_room(name: str, least: int) -> None:
    # Files in memory count as memory, beside what the process itself takes.
    [size] = re.findall(r"size=(\d+)m", CONTAINERS[name]["tmpfs"][0])
    memory = CONTAINERS[name]["deploy"]["resources"]["limits"]["memory"]
    assert int(size) >= least
    assert {"1G": 1024, "768M": 768}[memory] - int(size) >= 384


def test_a_changed_setting_starts_no_proxy_anew() -> None:
    # Compose before 2.30 starts anew whoever waits for a job, and whoever waits for those.
    for proxy in PROXIES:
        assert "depends_on" not in CONTAINERS[proxy]
    waited_for = {f"{proxy}-config" for proxy in PROXIES}
    assert CONTAINERS["envoy"]["depends_on"].keys() == waited_for
    assert not {name for name, one in ALL.items() if "envoy" in one.get("depends_on", {})}


def test_nothing_is_started_anew_by_what_it_waits_for() -> None:
    for name, service in ALL.items():
        assert not any(one.get("restart") for one in service.get("depends_on", {}).values()), name


@pytest.mark.parametrize("proxy", PROXIES)
def test_envoys_of_a_proxy_share_its_port_for_as_long_as_an_answer_takes(proxy: str) -> None:
    service = CONTAINERS[proxy]
    assert service["sysctls"] == {"net.ipv4.tcp_migrate_req": "1"}
    said = environment(f"{proxy}-config")
    assert not Endpoint.parse(said[f"{proxy.upper()}_LISTEN"]).is_loopback
    script = dict(re.findall(r"^(\w+)=(\d+) ", (FOLDER / "proxy.sh").read_text(), re.MULTILINE))
    longest = ChatSettings.model_fields["longest_turn_seconds"].default
    assert int(script["drain_seconds"]) > longest
    assert int(script["stop_seconds"]) < int(service["stop_grace_period"].removesuffix("s"))
    at_once = int(script["most_leaving"]) + 1
    ceiling = int(environment("gateway-config")["GATEWAY_HEAP_MEBIBYTES"])
    memory = int(service["deploy"]["resources"]["limits"]["memory"].removesuffix("M"))
    assert memory >= at_once * (ceiling + 112)


def test_whoever_reaches_the_world_in_kubernetes_does_so_here() -> None:
    from deploy.k8s.calls import calls_outside

    for call in calls_outside():
        service, _, kind = call.caller.name.partition("-")
        name = service if kind in ("", "web") else call.caller.name
        assert f"outside-{service}" in networks(name), name


@pytest.mark.parametrize("service", SERVICES)
def test_every_file_that_is_named_is_made(service: str) -> None:
    made = {path.name for path in Deployment(Path("x")).files() if path.parent.name == service}
    for name in family(service):
        named = {
            Path(value).name
            for value in environment(name).values()
            if str(value).startswith("/run/secrets/")
        }
        assert named == made


@pytest.mark.parametrize("service", sorted(POOLED))
def test_each_tier_has_its_pool_and_the_gateway_knows_it(service: str) -> None:
    told = environment("gateway-config")
    for tier in TIERS:
        assert environment(f"{service}-{tier}")["COMPANION_POOL"] == tier
        assert told[f"GATEWAY_{service.upper()}_{tier.upper()}"] == f"{service}-{tier}:8000"


def test_each_tier_has_a_worker_for_its_usage() -> None:
    for tier in TIERS:
        worker = f"billing-worker-{tier}"
        assert CONTAINERS[worker]["command"] == ["worker", "--tier", tier]
        assert environment(worker)["COMPANION_POOL"] == tier


def test_auth_asks_all_others_how_they_are() -> None:
    asked = json.loads(environment("auth")["AUTH_PEERS_HEALTH"])
    names = {name for service in SERVICES if service != "auth" for name in webs(service)}
    assert asked == {name: f"http://{name}:8001/readyz" for name in names}


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_of_a_service_starts_before_its_tables_are_there(service: str) -> None:
    for name in family(service) - {f"{service}-prepare"}:
        assert CONTAINERS[name]["depends_on"] == {
            f"{service}-prepare": {"condition": "service_completed_successfully"}
        }


# ---- who may talk to whom


def meets(name: str) -> set[str]:
    return {other for network in networks(name) for other in on(network)} - {name}


def test_only_the_gateway_is_where_a_port_leads() -> None:
    assert on("public") == {"gateway"}


def test_few_reach_the_world_outside_and_no_two_meet_there() -> None:
    open_ones = {
        name for name, network in COMPOSE["networks"].items() if not (network or {}).get("internal")
    }
    outside = {name: on(name) - {"simulator"} for name in open_ones - {"public"}}
    assert outside == {
        "outside-egress": {"egress"},
        "outside-keyvault": {"keyvault", "keyvault-worker", "keyvault-beat"},
        "outside-auth": {"auth-worker", "auth-beat"},
        "outside-billing": {"billing", "billing-beat"},
        "outside-legacy": {"legacy"},
    }


def test_key_use_is_reached_by_the_egress_alone() -> None:
    assert on("key-use") - {"prometheus"} == {"keyvault", "egress"}
    strangers = meets("keyvault") - family("keyvault")
    assert strangers == {
        *("gateway", "auth", "egress", "postgres", "valkey", "rabbitmq"),
        *("rabbitmq-2", "rabbitmq-3", "prometheus", "tools", "simulator"),
    }


def test_the_egress_is_reached_by_chat_and_voice_alone() -> None:
    assert on("egress") <= {"egress"} | family("chat") | family("voice")
    assert meets("egress") <= on("egress") | {"keyvault", "prometheus", "simulator"}


def test_the_gateway_meets_no_engine() -> None:
    assert not meets("gateway") & {"postgres", "valkey", "rabbitmq", "egress"}


@pytest.mark.parametrize("service", SERVICES)
def test_services_meet_only_where_they_have_to(service: str) -> None:
    others = {name for other in SERVICES if other != service for name in family(other)}
    met = {name for name in others if name in meets(webs(service)[0])}
    if service == "auth":
        assert met == {name for other in SERVICES if other != "auth" for name in webs(other)}
    elif service in POOLED:
        (other,) = set(POOLED) - {service}  # chat has its answers spoken
        assert met <= {"auth"} | family(other)
    else:
        assert met == {"auth"}


# ---- overrides


def test_the_sandbox_is_told_to_all_who_behave_differently_there() -> None:
    told = {
        name
        for name, service in SANDBOX["services"].items()
        if service.get("environment", {}).get("SANDBOX") == "1"
    }
    asked = {name for name in CONTAINERS if "SANDBOX" in environment(name)}
    # A relay sends what is there, and a migration is the same everywhere.
    assert asked - told == {f"{s}-{role}" for s in SERVICES for role in ("prepare", "relay")}


def test_three_nodes_share_a_name_that_the_services_know() -> None:
    for node in ("rabbitmq", "rabbitmq-2", "rabbitmq-3"):
        homes = ALL[node]["networks"]
        assert all("broker" in homes[service]["aliases"] for service in SERVICES)
    nodes = re.findall(r"= rabbit@(\S+)", (FOLDER / "rabbitmq-cluster.conf").read_text())
    assert nodes == ["rabbitmq", "rabbitmq-2", "rabbitmq-3"]


def test_a_cluster_is_set_as_one_node_is_beside_knowing_the_others() -> None:
    one, three = (
        (FOLDER / name).read_text() for name in ("rabbitmq.conf", "rabbitmq-cluster.conf")
    )
    assert three.startswith(one)


def test_prometheus_asks_every_process() -> None:
    asked = {
        name
        for job in read(FOLDER / "prometheus.yml")["scrape_configs"]
        for discovery in job["dns_sd_configs"]
        for name in discovery["names"]
    }
    assert asked == {name for name in processes() if not name.endswith("-prepare")} | {
        *("gateway", "egress", "broker", "legacy")
    }
    networks_of_prometheus = networks("prometheus")
    for name in asked - {"broker"}:
        assert networks(name) & networks_of_prometheus, f"it does not meet {name}"


def test_every_file_that_is_mounted_is_there() -> None:
    for name, service in ALL.items():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), f"{name}: {source}"
