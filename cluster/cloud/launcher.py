"""Files for Ray's cluster launcher (`ray up`) on virtual machines of AWS, Google Cloud and Azure.

An on-demand head that runs no shards, spot workers that come with the work and go when idle, private addresses only,
token authentication, and a role of the nodes instead of keys. Everything runs in the container that the Dockerfile
makes. The launcher copies the token of the user who starts the cluster; it stands in no rendered file.
"""

from __future__ import annotations

from typing import Any

from rayforest.cluster.cloud.description import ClusterDescription
from rayforest.cluster.cloud.provider import Provider
from rayforest.errors import ConfigError

Table = dict[str, Any]

HEAD, WORKER = "head", "worker"
TOKEN = "~/.ray/auth_token"  # noqa: S105  a path
"""Where Ray looks for it by itself, on this machine and on the nodes."""
_ENVIRONMENT = "export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0"
_START_HEAD = (
    "ray start --head --port=6379 --dashboard-host=127.0.0.1 --num-cpus=0"
    " --autoscaling-config=~/ray_bootstrap_config.yaml"
)
_IMAGE_GCP = "projects/deeplearning-platform-release/global/images/family/common-cpu"
"""Images of machines are those of Ray's own defaults: they have Docker."""


def launcher_file(description: ClusterDescription, provider: Provider) -> Table:
    """The document of cluster.yaml.

    Raises:
        ConfigError: the description lacks what belongs to an account.
    """
    place, user, head, worker = _PROVIDERS[provider](description)
    workers = description.workers
    return {
        "cluster_name": description.name,
        "max_workers": workers.max,
        "upscaling_speed": 10,  # a job says at once how much it has to do
        "idle_timeout_minutes": workers.idle_minutes,
        "provider": place,
        "auth": {"ssh_user": user},
        "docker": {
            "image": description.image,
            "container_name": "rayforest",
            "pull_before_run": True,
            "run_options": ["--ulimit nofile=65536:65536", "--security-opt no-new-privileges", "--cap-drop ALL"],
        },
        "available_node_types": {
            HEAD: {"resources": {"CPU": 0}, "node_config": head},
            WORKER: {
                "min_workers": workers.min,
                "max_workers": workers.max,
                "resources": {"CPU": workers.cpus},
                "node_config": worker,
            },
        },
        "head_node_type": HEAD,
        "file_mounts": {TOKEN: TOKEN},
        # Ray's defaults install Ray on the machine; here the image has all.
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [
            "ray stop",
            f"{_ENVIRONMENT}; {_START_HEAD}",
        ],
        "worker_start_ray_commands": ["ray stop", f"{_ENVIRONMENT}; ray start --address=$RAY_HEAD_IP:6379"],
    }


def _aws(description: ClusterDescription) -> tuple[Table, str, Table, Table]:
    aws, workers = description.aws, description.workers

    def node(kind: str, disk_gb: int) -> Table:
        config: Table = {
            "InstanceType": kind,
            "IamInstanceProfile": {"Name": aws.instance_profile},
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},  # a container is one hop more
            "BlockDeviceMappings": [
                {
                    "DeviceName": "/dev/sda1",
                    "Ebs": {"VolumeSize": disk_gb, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True},
                }
            ],
        }
        if aws.image_id:
            config["ImageId"] = aws.image_id
        if aws.subnet_ids:
            config["SubnetIds"] = list(aws.subnet_ids)
        return config

    worker = node(aws.worker_type, workers.disk_gb)
    if workers.spot:
        worker["InstanceMarketOptions"] = {"MarketType": "spot"}
    place = {"type": "aws", "region": aws.region, "use_internal_ips": True, "cache_stopped_nodes": False}
    return place, "ubuntu", node(aws.head_type, description.head.disk_gb), worker


def _gcp(description: ClusterDescription) -> tuple[Table, str, Table, Table]:
    gcp, workers = description.gcp, description.workers
    if gcp.project is None:
        raise _no_default("gcp.project", "the id of your Google Cloud project")
    account = gcp.service_account or f"rayforest-node@{gcp.project}.iam.gserviceaccount.com"

    def node(kind: str, disk_gb: int) -> Table:
        return {
            "machineType": f"zones/{gcp.zone}/machineTypes/{kind}",
            "disks": [
                {
                    "boot": True,
                    "autoDelete": True,
                    "type": "PERSISTENT",
                    "initializeParams": {"diskSizeGb": disk_gb, "sourceImage": _IMAGE_GCP},
                }
            ],
            "networkInterfaces": [
                {"subnetwork": f"projects/{gcp.project}/regions/{gcp.region}/subnetworks/{gcp.subnetwork}"}
            ],  # without accessConfigs: no public address
            "serviceAccounts": [{"email": account, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}],
            "shieldedInstanceConfig": {"enableSecureBoot": True, "enableVtpm": True},
        }

    worker = node(gcp.worker_type, workers.disk_gb)
    if workers.spot:
        worker["scheduling"] = [
            {"provisioningModel": "SPOT"},
            {"instanceTerminationAction": "DELETE"},
            {"onHostMaintenance": "TERMINATE"},
            {"automaticRestart": False},
        ]
    place = {
        "type": "gcp",
        "region": gcp.region,
        "availability_zone": gcp.zone,
        "project_id": gcp.project,
        "use_internal_ips": True,
    }
    return place, "ubuntu", node(gcp.head_type, description.head.disk_gb), worker


def _azure(description: ClusterDescription) -> tuple[Table, str, Table, Table]:
    azure, workers = description.azure, description.workers
    if azure.identity is None:
        raise _no_default("azure.identity", "the resource id of a user-assigned identity for the nodes")

    def node(kind: str, disk_gb: int) -> Table:
        return {
            "azure_arm_parameters": {
                "vmSize": kind,
                "imagePublisher": "microsoft-dsvm",
                "imageOffer": "ubuntu-2204",
                "imageSku": "2204-gen2",
                "imageVersion": "latest",
                "osDiskSize": disk_gb,
            }
        }

    worker = node(azure.worker_type, workers.disk_gb)
    if workers.spot:
        worker["azure_arm_parameters"] |= {
            "priority": "Spot",
            "evictionPolicy": "Delete",
            "billingProfile": {"maxPrice": -1},
        }
    place = {
        "type": "azure",
        "location": azure.location,
        "resource_group": azure.resource_group,
        "msi": azure.identity,
        "use_internal_ips": True,
        "use_external_head_ip": False,
        "cache_stopped_nodes": False,
    }
    return place, "ubuntu", node(azure.head_type, description.head.disk_gb), worker


def _no_default(key: str, what: str) -> ConfigError:
    return ConfigError(
        f"{key} is missing",
        expected=what,
        next_step=f"add it to the description, or give --set {key}=...",
    )


_PROVIDERS = {Provider.AWS: _aws, Provider.GCP: _gcp, Provider.AZURE: _azure}
