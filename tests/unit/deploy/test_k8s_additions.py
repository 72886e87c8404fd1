"""What an overlay may add in Kubernetes: backups, a place for files, the older service."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.companion.deployment import Deployment, Hosts
from deploy.companion.programs import SERVICES
from deploy.companion.settings import ROOT
from deploy.envoy.render import GatewaySettings, render_gateway
from deploy.k8s.processes import tiers
from deploy.k8s.render import HERE
from services.billing.settings import Settings as BillingSettings
from tests.support.k8s import (
    NEWEST_VERSIONS,
    Object,
    built,
    containers,
    environment,
    name_of,
    of_kind,
    pods,
    troubles,
)
from tests.support.network_policies import Outside, Pod, Policies

ADDED = ("files", "legacy", "broker-metrics")
"""Beside what `production` has by itself."""


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An operator's own, of `production` and all that may be added."""
    folder = tmp_path_factory.mktemp("overlay").resolve()
    there = os.path.relpath(HERE, folder)
    added = ", ".join(f"{there}/{name}" for name in ADDED)
    (folder / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: companion\n"
        f"resources: [{there}/overlays/production]\ncomponents: [{added}]\n",
        "utf-8",
    )
    return str(folder)


def jobs(overlay: str) -> Iterator[tuple[str, Object]]:
    """The template of the pods of what runs by the clock."""
    for one in of_kind(overlay, "CronJob"):
        yield one["metadata"]["name"], one["spec"]["jobTemplate"]["spec"]["template"]


def of_name(overlay: str, kind: str, name: str) -> Object:
    [found] = [one for one in of_kind(overlay, kind) if one["metadata"]["name"] == name]
    return found


def reached(overlay: str, caller: Pod) -> set[str]:
    """Of our pods and what is outside, whom it may ask for anything at all."""
    policies = Policies(of_kind(overlay, "NetworkPolicy"))
    ours = [Pod(name, pod["metadata"]["labels"], "companion") for name, pod in pods(overlay)]
    ports = (443, 3000, 3001, 5432, 5672, 6379, 8000, 8001, 8080, 8081)
    outside = {"internet": "93.184.216.34", "engines": "192.0.2.10", "cloud": "169.254.169.254"}
    others: list[tuple[str, Pod | Outside]] = [
        *((one.name, one) for one in ours),
        *((n, Outside(a)) for n, a in outside.items()),
    ]
    return {name for name, other in others for port in ports if policies.allow(caller, other, port)}


@pytest.mark.parametrize("version", NEWEST_VERSIONS)
def test_a_cluster_takes_every_object(overlay: str, version: str) -> None:
    assert [trouble for one in built(overlay) for trouble in troubles(one, version)] == []


def test_no_added_pod_can_do_more_than_it_needs(overlay: str) -> None:
    added = [*jobs(overlay), *((n, pod) for n, pod in pods(overlay) if n == "legacy")]
    assert {name for name, _ in added} == {"backup", "erasures", "legacy"}
    for name, pod in added:
        spec, security = pod["spec"], pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] == 10001, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert {"requests", "limits"} == container["resources"].keys(), name


def test_every_volume_is_there(overlay: str) -> None:
    there = {name_of(one) for one in built(overlay)}
    for name, pod in [*jobs(overlay), *pods(overlay)]:
        declared = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for container in containers(pod):
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= declared.keys() | ({"outbox"} if name == "legacy" else set()), name
        for volume in declared.values():
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert f"PersistentVolumeClaim/{claim}" in there, name


# Backups.


def test_a_backup_finds_the_secrets_of_all_services(overlay: str, tmp_path: Path) -> None:
    Deployment(tmp_path / "secrets").create(Hosts())
    for name, pod in jobs(overlay):
        [container] = pod["spec"]["containers"]
        told = {one["name"]: one.get("value") for one in container["env"]}
        places = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        secrets = {
            volume["name"]: volume["secret"]["secretName"]
            for volume in pod["spec"]["volumes"]
            if "secret" in volume
        }
        for service in SERVICES:
            assert secrets[places[f"{told['COMPANION_SECRETS']}/{service}"]] == service, name
            assert (tmp_path / "secrets" / service / "database_url").exists()


def _operators_pods() -> Iterator[tuple[str, Object]]:
    [(_, tools)] = pods("production/tools")
    yield "tools", tools
    for name in ("restore", "forget"):
        [job] = built(f"production/{name}")
        assert (job["kind"], job["metadata"]["name"]) == ("Job", name)
        yield name, job["spec"]["template"]


def test_operators_find_the_secrets_of_all_services(tmp_path: Path) -> None:
    for name, pod in _operators_pods():
        [container] = pod["spec"]["containers"]
        told = {one["name"]: one["value"] for one in container["env"]}
        secrets = {
            v["name"]: v["secret"]["secretName"] for v in pod["spec"]["volumes"] if "secret" in v
        }
        places = {m["mountPath"]: secrets.get(m["name"]) for m in container["volumeMounts"]}
        for service in SERVICES:
            assert places[f"{told['COMPANION_SECRETS']}/{service}"] == service, name
        for variable, path in told.items():
            if variable.endswith("_FILE"):
                assert places[str(Path(path).parent)] == "operator", variable


def test_what_is_backed_up_can_be_restored(overlay: str) -> None:
    pod = dict(_operators_pods())["restore"]
    [backup] = [one for name, one in jobs(overlay) if name == "backup"]
    [container] = pod["spec"]["containers"]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    places = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    claims = {
        place: volume["persistentVolumeClaim"]["claimName"]
        for place, volume in places.items()
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"/backups": "backups", "/erasures": "erasures"}
    words = container["args"]
    assert words[:3] == ["backup", "restore", "/backups/BACKUP.tar"]
    assert words[words.index("--erasures") + 1] == "/erasures/deleted"
    made = backup["spec"]["containers"][0]["args"]
    assert words[words.index("--passphrase-file") + 1] == made[made.index("--passphrase-file") + 1]
    # It is unpacked before it is checked and read.
    assert "ephemeral" in places["/tmp"]
    policies = Policies(of_kind(overlay, "NetworkPolicy"))
    assert policies.allow(
        Pod("restore", pod["metadata"]["labels"], "companion"), Outside("192.0.2.10"), 5432
    )


def test_a_rollout_ends_the_pause_of_a_restore(overlay: str) -> None:
    """What a manifest does not say stays as somebody has patched it."""
    found = {one["metadata"]["name"]: one["spec"]["suspend"] for one in of_kind(overlay, "CronJob")}
    assert found == {"backup": False, "erasures": False}


@pytest.mark.parametrize("version", NEWEST_VERSIONS)
@pytest.mark.parametrize("job", ["restore", "forget"])
def test_a_cluster_takes_the_restore(job: str, version: str) -> None:
    assert [
        trouble for one in built(f"production/{job}") for trouble in troubles(one, version)
    ] == []


def test_what_a_restore_could_not_delete_again_is_deleted_without_another_restore() -> None:
    made = dict(_operators_pods())
    restore, forget = made["restore"]["spec"], made["forget"]["spec"]
    [container] = forget["containers"]
    words = restore["containers"][0]["args"]
    assert container["args"] == ["backup", "forget", words[words.index("--erasures") + 1]]
    for field in ("image", "env", "volumeMounts", "securityContext"):
        assert container[field] == restore["containers"][0][field], field
    # Only a restore unpacks what needs a disk, and says which backups there are.
    assert "initContainers" not in forget and "ephemeral" not in str(forget["volumes"])
    page = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
    assert "deploy/k8s/overlays/production/forget" in page
    # What waits for a Job to be complete alone waits on when it has failed.
    told = page[page.index("kubectl kustomize deploy/k8s/overlays/production/restore") :]
    assert told.index("logs -f job/restore") < told.index("--for=condition=complete job/restore")
    # Nothing of before writes while databases are emptied.
    assert "part-of=companion --cascade=foreground" in page


def test_a_backup_is_a_command_that_there_is(overlay: str) -> None:
    commands = (ROOT / "deploy/companion/commands/backup.py").read_text("utf-8")
    for _, pod in jobs(overlay):
        group, command, target, *_ = pod["spec"]["containers"][0]["args"]
        assert group == "backup" and re.search(rf'def {command}_?\(|"{command}"', commands)
        [place] = [m for m in pod["spec"]["containers"][0]["volumeMounts"] if m["name"] == "place"]
        assert target.startswith(f"{place['mountPath']}/")
    names = [one["name"] for one in _environment_of_backup(overlay)]
    assert names == ["JOB", "COMPANION_SECRETS", "BILLING_LEDGER_ARCHIVE_DIR"]


def _environment_of_backup(overlay: str) -> list[Object]:
    found: list[Object] = dict(jobs(overlay))["backup"]["spec"]["containers"][0]["env"]
    return found


def test_no_two_backups_run_at_once_and_one_ends(overlay: str) -> None:
    for one in of_kind(overlay, "CronJob"):
        assert one["spec"]["concurrencyPolicy"] == "Forbid"
        assert one["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] <= 4 * 3600


def test_a_backup_reaches_the_engines_and_nobody_outside(overlay: str) -> None:
    for name, pod in jobs(overlay):
        caller = Pod(name, pod["metadata"]["labels"], "companion")
        assert reached(overlay, caller) == {"engines", "gateway"}


# Files.


def test_billing_writes_its_files_where_it_may(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = {
        name
        for name, pod in pods(overlay)
        if {"name": "files", "mountPath": "/files"} in pod["spec"]["containers"][0]["volumeMounts"]
    }
    workers = {f"billing-worker-{tier.name}" for tier in tiers()}
    assert mounted == {"billing", "billing-beat", *workers}
    told = environment(overlay, dict(pods(overlay))["billing"]["spec"]["containers"][0])
    assert BillingSettings.model_fields["ledger_archive_dir"].validation_alias in told
    assert told["BILLING_EXPORT_TARGET"].startswith("file:///files/")
    assert told["BILLING_LEDGER_ARCHIVE_DIR"].startswith("/files/")
    [archive] = [one for one in _environment_of_backup(overlay) if "ARCHIVE" in one["name"]]
    assert archive["value"] == told["BILLING_LEDGER_ARCHIVE_DIR"]


# The older service.


def test_the_gateway_leads_to_the_older_service_which_checks_tokens(overlay: str) -> None:
    renderer = containers(dict(pods(overlay))["gateway"])[0]
    told = environment(overlay, renderer)
    settings = GatewaySettings.from_environment(told, [tier.name for tier in tiers()])
    assert settings.legacy is not None and settings.legacy_checks_tokens
    service = of_name(overlay, "Service", settings.legacy.endpoint.host)
    [port] = service["spec"]["ports"]
    assert port["port"] == settings.legacy.endpoint.port
    assert service["spec"]["clusterIP"] == "None"
    assert "legacy-pods" in render_gateway(settings)


def test_the_older_service_is_told_what_it_needs(overlay: str) -> None:
    pod = dict(pods(overlay))["legacy"]
    told = environment(overlay, containers(pod)[0])
    source = (ROOT / "deploy/legacy/src/settings.js").read_text("utf-8")
    known = set(re.findall(r'environment, "([A-Z_]+)"', source)) | {"JWKS_URL"}
    assert told.keys() <= known
    suite = of_kind(overlay, "ConfigMap")
    [issuer] = {one["data"]["TOKEN_ISSUER"] for one in suite if "TOKEN_ISSUER" in one["data"]}
    assert told["TOKEN_ISSUER"] == issuer
    mounts = {mount["mountPath"] for mount in containers(pod)[0]["volumeMounts"]}
    for name in ("USAGE_TOKEN_FILE", "USAGE_OUTBOX"):
        assert any(told[name].startswith(f"{mount}/") for mount in mounts), name


def test_the_older_service_reaches_the_gateway_alone_and_is_reached_by_it_alone(
    overlay: str,
) -> None:
    legacy = Pod("legacy", dict(pods(overlay))["legacy"]["metadata"]["labels"], "companion")
    assert reached(overlay, legacy) == {"gateway"}
    policies = Policies(of_kind(overlay, "NetworkPolicy"))
    ours = [Pod(name, pod["metadata"]["labels"], "companion") for name, pod in pods(overlay)]
    asking = {
        one.name for one in ours for port in (3000, 3001) if policies.allow(one, legacy, port)
    }
    assert asking == {"gateway"}
    prometheus = Pod("prometheus", {"app.kubernetes.io/name": "prometheus"}, "monitoring")
    assert policies.allow(prometheus, legacy, 3001)
    assert not policies.allow(prometheus, legacy, 3000)


def test_usage_that_waits_outlives_its_pod(overlay: str) -> None:
    spec = of_name(overlay, "StatefulSet", "legacy")["spec"]
    [claim] = spec["volumeClaimTemplates"]
    mounts = spec["template"]["spec"]["containers"][0]["volumeMounts"]
    assert {"name": claim["metadata"]["name"], "mountPath": "/outbox"} in mounts


def test_the_older_services_usage_is_watched(overlay: str) -> None:
    labels = dict(pods(overlay))["legacy"]["metadata"]["labels"]
    monitor = of_name(overlay, "PodMonitor", "companion-webs")["spec"]
    assert labels["kind"] in monitor["selector"]["matchExpressions"][0]["values"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()


def test_the_broker_is_asked_for_all_that_rules_look_at(overlay: str) -> None:
    """As compose asks it: the same pages, the same labels."""
    scrapes = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text("utf-8"))
    jobs = [one for one in scrapes["scrape_configs"] if one["job_name"].startswith("rabbitmq")]
    in_compose = {(one.get("metrics_path", "/metrics"), str(one.get("params"))) for one in jobs}
    endpoints = of_name(overlay, "PodMonitor", "companion-broker")["spec"]["podMetricsEndpoints"]
    assert {(one["path"], str(one.get("params"))) for one in endpoints} == in_compose
    for endpoint in endpoints:
        fixed = {r["targetLabel"]: r.get("replacement") for r in endpoint["relabelings"]}
        assert (fixed["process"], fixed["pool"]) == ("broker", "all")
