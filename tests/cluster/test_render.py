"""Clusters in clouds: rendered files are valid where they are read, private, and without a secret."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from command import rayforest
from ray.autoscaler._private.util import prepare_config, validate_config
from real_data import shared_data

from rayforest.cluster.cloud.description import ClusterDescription, load_description
from rayforest.cluster.cloud.kuberay import SPOT_LABELS
from rayforest.cluster.cloud.provider import Provider
from rayforest.cluster.cloud.render import render, write_rendered
from rayforest.errors import ConfigError

ACCOUNT = ('gcp.project="tables-123"', 'azure.identity="/subscriptions/1/resourceGroups/r/identities/i"')
MACHINES = (Provider.AWS, Provider.GCP, Provider.AZURE)
CRDS = shared_data() / "kuberay_crds"


def described(*overrides: str) -> ClusterDescription:
    return load_description(None, [*ACCOUNT, *overrides])


def launcher(provider: Provider, *overrides: str) -> dict[str, Any]:
    return dict(yaml.safe_load(render(described(*overrides), provider)["cluster.yaml"]))


def documents(*overrides: str) -> dict[str, dict[str, Any]]:
    texts = render(described(*overrides), Provider.KUBERAY)
    found = [document for name in texts if name.endswith(".yaml") for document in yaml.safe_load_all(texts[name])]
    return {document["kind"]: document for document in found}


def nested(value: Any) -> Iterator[Any]:
    yield value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for one in inner:
        yield from nested(one)


def pod_templates(rendered: Any) -> list[Mapping[str, Any]]:
    return [v for v in nested(rendered) if isinstance(v, Mapping) and "containers" in v.get("spec", {})]


@pytest.mark.parametrize("provider", MACHINES)
def test_ray_takes_the_launcher_file_and_its_defaults_add_no_command(provider: Provider) -> None:
    rendered = launcher(provider)
    prepared = prepare_config(json.loads(json.dumps(rendered)))
    validate_config(prepared)
    assert prepared["provider"].items() >= rendered["provider"].items()
    for commands in ("initialization", "setup", "head_setup", "worker_setup"):
        assert prepared[f"{commands}_commands"] == []
    assert prepared["head_start_ray_commands"] == rendered["head_start_ray_commands"]


@pytest.mark.parametrize("provider", MACHINES)
def test_nodes_have_private_addresses_and_every_ray_asks_for_the_token(provider: Provider) -> None:
    rendered = launcher(provider)
    assert rendered["provider"]["use_internal_ips"] is True
    assert not any("accessConfigs" in value for value in nested(rendered) if isinstance(value, Mapping))
    for start in (rendered["head_start_ray_commands"][1], rendered["worker_start_ray_commands"][1]):
        assert start.startswith("export RAY_AUTH_MODE=token ")
    assert rendered["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "--dashboard-host=127.0.0.1" in rendered["head_start_ray_commands"][1]


@pytest.mark.parametrize("provider", MACHINES)
def test_only_workers_are_spot_machines_and_only_where_asked(provider: Provider) -> None:
    spot = re.compile("spot", re.IGNORECASE)
    nodes = launcher(provider)["available_node_types"]
    assert spot.search(json.dumps(nodes["worker"]))
    assert not spot.search(json.dumps(nodes["head"]))
    assert nodes["head"]["resources"] == {"CPU": 0}
    assert not spot.search(json.dumps(launcher(provider, "workers.spot=false")["available_node_types"]))


def test_numbers_of_the_description_arrive_in_every_provider() -> None:
    asked = ("workers.min=2", "workers.max=7", "workers.cpus=3", "workers.memory_gb=11", "workers.idle_minutes=9")
    for provider in MACHINES:
        rendered = launcher(provider, *asked)
        worker = rendered["available_node_types"]["worker"]
        assert (worker["min_workers"], worker["max_workers"], worker["resources"]) == (2, 7, {"CPU": 3})
        assert (rendered["max_workers"], rendered["idle_timeout_minutes"]) == (7, 9)
    spec = documents(*asked)["RayCluster"]["spec"]
    (group,) = spec["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"]) == (2, 7)
    amounts = group["template"]["spec"]["containers"][0]["resources"]
    assert amounts["requests"] == amounts["limits"] == {"cpu": "3", "memory": "11Gi"}
    assert spec["autoscalerOptions"]["idleTimeoutSeconds"] == 9 * 60


def test_pods_keep_the_restricted_standard() -> None:
    rendered = documents()
    specs = [
        value["spec"]
        for value in nested(rendered)
        if isinstance(value, Mapping) and "containers" in value.get("spec", {})
    ]
    assert len(specs) == 6  # head and workers of cluster, job and nightly job
    for spec in specs:
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] != 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            written = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert written >= {"/tmp", "/dev/shm", "/home/rayforest"}
            assert {mount["name"] for mount in container["volumeMounts"]} <= {v["name"] for v in spec["volumes"]}
    assert rendered["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_only_heads_hold_a_token_of_kubernetes_with_which_the_autoscaler_asks_for_pods() -> None:
    rendered = documents()
    assert rendered["ServiceAccount"]["automountServiceAccountToken"] is False
    for template in pod_templates(rendered):
        is_head = template["spec"]["containers"][0]["name"] == "ray-head"
        assert template["spec"].get("automountServiceAccountToken", False) is is_head


def test_the_policy_selects_the_pods_and_lets_only_them_and_clients_in() -> None:
    rendered = documents()
    policy = rendered["NetworkPolicy"]["spec"]
    labels = policy["podSelector"]["matchLabels"]
    templates = [
        value for value in nested(rendered) if isinstance(value, Mapping) and "containers" in value.get("spec", {})
    ]
    assert all(template["metadata"]["labels"] == labels for template in templates)
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    own, others, monitoring = policy["ingress"]
    assert own == {"from": [{"podSelector": {"matchLabels": labels}}]}
    assert others["ports"] == [{"protocol": "TCP", "port": 8265}]
    assert monitoring == {
        "from": [{"namespaceSelector": {"matchLabels": {"rayforest.io/metrics": "true"}}}],
        "ports": [{"protocol": "TCP", "port": 8080}],
    }
    assert all("from" in rule for rule in policy["ingress"])


def test_ray_makes_the_token_and_spot_pods_may_run_anywhere_else() -> None:
    spec = documents()["RayCluster"]["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    worker = spec["workerGroupSpecs"][0]["template"]["spec"]
    assert {t["key"]: t["value"] for t in worker["tolerations"]} == SPOT_LABELS
    assert "tolerations" not in spec["headGroupSpec"]["template"]["spec"]
    assert (
        "tolerations"
        not in documents("workers.spot=false")["RayCluster"]["spec"]["workerGroupSpecs"][0]["template"]["spec"]
    )


def test_jobs_run_the_project_on_the_cluster_that_they_bring() -> None:
    rendered = documents('kuberay.command="score"', 'kuberay.schedule="30 1 * * 1-5"')
    job, nightly = rendered["RayJob"]["spec"], rendered["RayCronJob"]["spec"]
    assert job["entrypoint"] == "rayforest score /etc/rayforest/project.toml --set run.address=auto"
    assert nightly["jobTemplate"] == job
    assert nightly["schedule"] == "30 1 * * 1-5"
    head = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert {"name": "project", "configMap": {"name": "rayforest-project"}} in head["volumes"]


@pytest.mark.skipif(not CRDS.is_dir(), reason="KubeRay's resource definitions are not there")
@pytest.mark.parametrize("kind", ["RayCluster", "RayJob", "RayCronJob"])
@pytest.mark.parametrize("overrides", [(), ("workers.spot=false", "workers.min=3")])
def test_kuberay_knows_every_field(kind: str, overrides: tuple[str, ...]) -> None:
    packed = CRDS / f"ray.io_{kind.lower()}s.yaml.gz"
    definition = yaml.load(gzip.decompress(packed.read_bytes()), yaml.CSafeLoader)
    (version,) = [v for v in definition["spec"]["versions"] if v["name"] == "v1"]
    schema = version["schema"]["openAPIV3Schema"]
    document = documents(*overrides)[kind]
    jsonschema.validate(document, schema)
    assert list(unknown_fields(document["spec"], schema["properties"]["spec"], "spec")) == []
    misspelt = document["spec"] | {"enableInTreeAutoscalling": True}
    assert list(unknown_fields(misspelt, schema["properties"]["spec"], "spec")) == ["spec.enableInTreeAutoscalling"]


def unknown_fields(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Fields that Kubernetes would drop in silence."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            known = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if known is None:
                yield f"{path}.{name}"
            elif isinstance(known, Mapping):
                yield from unknown_fields(inner, known, f"{path}.{name}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from unknown_fields(inner, schema.get("items", {}), f"{path}[{place}]")


def test_the_image_is_pinned_slim_and_without_rights() -> None:
    for provider in Provider:
        text = render(described('cluster.python="3.13"'), provider)["Dockerfile"]
        assert text.count("FROM python:3.13-slim") == 2
        assert "--require-hashes" in text
        assert "USER 1000:1000" in text
        assert "USER root" not in text
    assert "boto3" in render(described(), Provider.AWS)["requirements.in"]
    assert "boto3" not in render(described(), Provider.KUBERAY)["requirements.in"]


def test_the_role_of_aws_nodes_reaches_one_bucket() -> None:
    policy = json.loads(render(described('cluster.storage="s3://tables/payments"'), Provider.AWS)["node-policy.json"])
    resources = {s["Sid"]: s["Resource"] for s in policy["Statement"]}
    assert resources["TablesAndResults"] == "arn:aws:s3:::tables/payments/*"
    assert resources["ListTables"] == "arn:aws:s3:::tables"
    with pytest.raises(ConfigError, match=r"cluster\.storage is not in this cloud"):
        render(described('cluster.storage="gs://tables"'), Provider.AWS)


@pytest.mark.parametrize(
    ("provider", "overrides", "said"),
    [
        (Provider.GCP, [], "gcp.project is missing"),
        (Provider.AZURE, [], "azure.identity is missing"),
        (Provider.KUBERAY, ['kuberay.command="scor"'], "kuberay.command is no job"),
        (Provider.KUBERAY, ['kuberay.schedule="daily"'], "kuberay.schedule is no time"),
        (Provider.AWS, ["workers.max=1", "workers.min=2"], "workers"),
        (Provider.AWS, ["workers.cpus=0"], "workers.cpus"),
        (Provider.AWS, ["worker.cpus=1"], "unknown key 'worker'"),
        (Provider.AWS, ['cluster.name="My Cluster"'], "cluster.name"),
    ],
)
def test_a_description_that_is_wrong_is_refused_by_key(provider: Provider, overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        render(load_description(None, overrides), provider)
    assert said in refused.value.what


def test_a_description_is_a_file_and_its_errors_name_the_line(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text('[cluster]\nname = "nightly"\n[workers]\nmax = 20\nspott = true\n')
    with pytest.raises(ConfigError) as refused:
        load_description(file)
    assert "line 5" in refused.value.what
    assert "spot" in (refused.value.next_step or "")
    file.write_text('[cluster]\nname = "nightly"\n[workers]\nmax = 20\n')
    assert load_description(file).workers.max == 20


def test_files_are_the_same_each_time_and_what_was_changed_by_hand_is_kept(tmp_path: Path) -> None:
    first = write_rendered(described(), Provider.AWS, tmp_path)
    assert write_rendered(described(), Provider.AWS, tmp_path) == first
    (tmp_path / "cluster.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        write_rendered(described(), Provider.AWS, tmp_path)
    assert (tmp_path / "cluster.yaml").read_text() == "mine"
    write_rendered(described(), Provider.AWS, tmp_path, overwrite=True)
    assert (tmp_path / "cluster.yaml").read_text() != "mine"


def test_the_command_writes_files_and_says_which(tmp_path: Path) -> None:
    done = rayforest("cluster", "render", "kuberay", "--out", tmp_path / "kube", "--json")
    assert done.code == 0
    told = done.json
    assert sorted(told["files"]) == sorted(file.name for file in (tmp_path / "kube").iterdir())
    refused = rayforest("cluster", "render", "gcp", "--out", tmp_path / "gcp")
    assert refused.code == 2
    assert "gcp.project is missing" in refused.err
    assert not (tmp_path / "gcp").exists()
