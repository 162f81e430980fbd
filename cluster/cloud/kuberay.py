"""Manifests for KubeRay: a cluster, a job, a nightly job, and who may reach them.

KubeRay's operator makes the token, a Secret that only these pods mount, so it stands in no rendered file. Pods run as a
user without rights, on a root file system that cannot be written; what Ray writes lies in volumes that end with them.
"""

from __future__ import annotations

from copy import deepcopy
from importlib.metadata import version
from typing import Any

from rayforest.cluster.cloud.description import ClusterDescription
from rayforest.cluster.submit import JOBS
from rayforest.errors import ConfigError

Table = dict[str, Any]

USER = 1000
"""Of the image's user."""
_PROJECT = "/etc/rayforest"
_HOME = "/home/rayforest"
_MEGABYTES_A_GB = 1024
_CRON_PARTS = 5
METRICS_PORT = 8080
"""Of every pod; KubeRay's default, too, which the service of the head has by itself."""
SPOT_LABELS = {
    "karpenter.sh/capacity-type": "spot",
    "eks.amazonaws.com/capacityType": "SPOT",
    "cloud.google.com/gke-spot": "true",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
"""By which clusters tell their spot nodes; a node has one of them."""


def manifests(description: ClusterDescription) -> dict[str, list[Table]]:
    """The documents of each file.

    Raises:
        ConfigError: the description asks for a job that there is not.
    """
    kube = description.kuberay
    if kube.command not in JOBS:
        raise ConfigError(
            "kuberay.command is no job",
            expected=f"one of {', '.join(JOBS)}",
            found=repr(kube.command),
            next_step="name the job that the pods are to carry out",
        )
    if len(kube.schedule.split()) != _CRON_PARTS and not kube.schedule.startswith("@"):
        raise ConfigError(
            "kuberay.schedule is no time",
            expected="five parts, as cron writes them: minute, hour, day, month, weekday",
            found=repr(kube.schedule),
            next_step='for example "0 2 * * *": every night at two',
        )
    return {
        "namespace.yaml": [_namespace(description), _service_account(description), _network_policy(description)],
        "raycluster.yaml": [_object(description, "ray.io/v1", "RayCluster", "", _cluster(description))],
        "rayjob.yaml": [_object(description, "ray.io/v1", "RayJob", "-job", _job(description))],
        "raycronjob.yaml": [
            _object(
                description,
                "ray.io/v1",
                "RayCronJob",
                "-nightly",
                {"schedule": kube.schedule, "timeZone": kube.time_zone, "jobTemplate": _job(description)},
            )
        ],
    }


def _object(description: ClusterDescription, api: str, kind: str, suffix: str, spec: Table) -> Table:
    metadata = {
        "name": f"{description.name}{suffix}",
        "namespace": description.kuberay.namespace,
        "labels": _labels(description),
    }
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}


def _labels(description: ClusterDescription) -> dict[str, str]:
    return {"app.kubernetes.io/name": "rayforest", "app.kubernetes.io/instance": description.name}


def _namespace(description: ClusterDescription) -> Table:
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": description.kuberay.namespace, "labels": enforced},
    }


def _service_account(description: ClusterDescription) -> Table:
    kube = description.kuberay
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": kube.service_account, "namespace": kube.namespace, "labels": _labels(description)},
        "automountServiceAccountToken": False,
    }


def _network_policy(description: ClusterDescription) -> Table:
    """Pods of the cluster reach each other; from outside, those that are labelled as clients reach the dashboard, and
    those of a namespace that is labelled so read the metrics.
    """
    ours = {"podSelector": {"matchLabels": _labels(description)}}
    clients = {"podSelector": {"matchLabels": {"rayforest.io/client": "true"}}}
    monitoring = {"namespaceSelector": {"matchLabels": {"rayforest.io/metrics": "true"}}}
    operator = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-operator"}}}
    spec = {
        "podSelector": {"matchLabels": _labels(description)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [ours]},
            {"from": [clients, operator], "ports": [{"protocol": "TCP", "port": 8265}]},
            {"from": [monitoring], "ports": [{"protocol": "TCP", "port": METRICS_PORT}]},
        ],
        "egress": [
            {"to": [ours]},
            {"ports": [{"protocol": p, "port": 53} for p in ("UDP", "TCP")]},
            {"ports": [{"protocol": "TCP", "port": port} for port in (443, 6443)]},  # object store, API server
        ],
    }
    return _object(description, "networking.k8s.io/v1", "NetworkPolicy", "", spec)


def _cluster(description: ClusterDescription) -> Table:
    head, workers = description.head, description.workers
    head_pod = _pod(description, "ray-head", head.cpus, head.memory_gb, head.disk_gb, spot=False)
    head_pod["spec"]["automountServiceAccountToken"] = True  # the autoscaler in it asks Kubernetes for pods
    return {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": 60 * workers.idle_minutes,
            "upscalingMode": "Default",
            "resources": _resources(cpus=0.5, memory="512Mi"),
            "securityContext": _container_security(),
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  in the pod
        },
        "headGroupSpec": {
            "rayStartParams": {
                "num-cpus": "0",
                "dashboard-host": "0.0.0.0",  # noqa: S104  the pod's; see the policy
                "metrics-export-port": str(METRICS_PORT),
            },
            "template": head_pod,
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "minReplicas": workers.min,
                "maxReplicas": workers.max,
                "rayStartParams": {"metrics-export-port": str(METRICS_PORT)},
                "template": _pod(
                    description, "ray-worker", workers.cpus, workers.memory_gb, workers.disk_gb, spot=workers.spot
                ),
            }
        ],
    }


def _job(description: ClusterDescription) -> Table:
    kube = description.kuberay
    cluster = deepcopy(_cluster(description))
    head = cluster["headGroupSpec"]["template"]["spec"]
    head["volumes"].append({"name": "project", "configMap": {"name": kube.project_config_map}})
    head["containers"][0]["volumeMounts"].append({"name": "project", "mountPath": _PROJECT, "readOnly": True})
    return {
        "entrypoint": f"rayforest {kube.command} {_PROJECT}/project.toml --set run.address=auto",
        "submissionMode": "HTTPMode",  # through the operator: no further pod with the token
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "backoffLimit": 3,  # a new cluster goes on where the last one ended
        "rayClusterSpec": cluster,
    }


def _pod(description: ClusterDescription, name: str, cpus: int, memory_gb: int, disk_gb: int, *, spot: bool) -> Table:
    memory = f"{memory_gb}Gi"
    shared = f"{max(memory_gb * _MEGABYTES_A_GB * 3 // 10, 64)}Mi"
    volumes: list[Table] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": f"{disk_gb}Gi"}},
        {"name": "home", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": shared}},
    ]
    container = {
        "name": name,
        "image": description.image,
        "env": [
            {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
            {"name": "HOME", "value": _HOME},
            {"name": "RAYFOREST_HOME", "value": f"{_HOME}/state"},
        ],
        "resources": _resources(cpus=cpus, memory=memory),
        "securityContext": _container_security(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  in the pod
            {"name": "home", "mountPath": _HOME},
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108  in the pod
        ],
    }
    spec: Table = {
        "serviceAccountName": description.kuberay.service_account,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    if spot:
        spec["terminationGracePeriodSeconds"] = 25  # a provider gives 30 at most
        spec["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": _prefer_spot()}}
        spec["tolerations"] = [
            {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}
            for key, value in SPOT_LABELS.items()
        ]
    return {"metadata": {"labels": _labels(description)}, "spec": spec}


def _prefer_spot() -> list[Table]:
    return [
        {"weight": 100, "preference": {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}}
        for key, value in SPOT_LABELS.items()
    ]


def _resources(*, cpus: float, memory: str) -> Table:
    """Requests that are the limits: Ray counts on what it was promised."""
    amount = {"cpu": f"{cpus:g}", "memory": memory}
    return {"requests": dict(amount), "limits": dict(amount)}


def _container_security() -> Table:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
