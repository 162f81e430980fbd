"""What a cluster in a cloud is to be: a small TOML file, or its defaults.

name = "nightly"
storage = "s3://my-tables"

[workers]
max = 20
cpus = 8
memory_gb = 32

[aws]
region = "eu-central-1"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, StrictBool, ValidationError, field_validator, model_validator

from rayforest.project.explain import explain
from rayforest.project.load import parse_toml, read_toml
from rayforest.project.sections import Section

Count = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, ge=1)]


class ClusterSection(Section):
    """What all nodes share."""

    name: str = "rayforest"
    """Of up to 40 small letters, digits and '-'."""
    image: str | None = None
    """Container image, built from the Dockerfile that is rendered beside; rayforest:VERSION by default."""
    python: str = "3.12"
    """Of the image. Drivers elsewhere must have the same."""
    storage: str | None = None
    """URI of the bucket that holds tables and results, for the permissions that are rendered."""

    @field_validator("name")
    @classmethod
    def _dns_label(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", value):
            raise ValueError("a name of up to 40 small letters, digits and '-', that begins with a letter")
        return value


class HeadSection(Section):
    """The node that holds Ray's own state and the drivers of jobs; never a spot machine, and it does no shards."""

    cpus: Positive = 4
    memory_gb: Positive = 16
    disk_gb: Positive = 50


class WorkersSection(Section):
    """The nodes that do the work: they come with it, and go when they are idle."""

    min: Count = 0
    max: Positive = 10
    cpus: Positive = 8
    memory_gb: Positive = 32
    disk_gb: Positive = 100
    """Where Ray spills what does not fit its memory."""
    spot: StrictBool = True
    """Cheaper machines that the provider may take away: a lost one costs the shards in flight."""
    idle_minutes: Positive = 5

    @model_validator(mode="after")
    def _range(self) -> WorkersSection:
        if self.min > self.max:
            raise ValueError(f"min of at most max; {self.min} is above {self.max}")
        return self


class AwsSection(Section):
    """Amazon Web Services."""

    region: str = "us-east-1"
    head_type: str = "m7i.xlarge"
    worker_type: str = "m7i.2xlarge"
    instance_profile: str = "rayforest-node"
    """Of the nodes: may read and write `storage` and, for the head, start and end workers."""
    image_id: str | None = None
    """Of Ubuntu with Docker; Ray's own default by region if left out."""
    subnet_ids: tuple[str, ...] = ()
    """Private ones; found by Ray if left out."""


class GcpSection(Section):
    """Google Cloud."""

    project: str | None = None
    """Its id. There is no default."""
    region: str = "us-central1"
    zone: str = "us-central1-a"
    head_type: str = "n2-standard-4"
    worker_type: str = "n2-standard-8"
    service_account: str | None = None
    """Email of the nodes' account; rayforest-node of the project by default."""
    subnetwork: str = "default"
    """With Cloud NAT or Private Google Access: nodes have no public address."""


class AzureSection(Section):
    """Microsoft Azure."""

    location: str = "westeurope"
    resource_group: str = "rayforest"
    head_type: str = "Standard_D4s_v5"
    worker_type: str = "Standard_D8s_v5"
    identity: str | None = None
    """Resource id of the nodes' user-assigned identity. There is no default."""


class KubernetesSection(Section):
    """KubeRay 1.6 or newer, on any Kubernetes."""

    namespace: str = "rayforest"
    service_account: str = "rayforest"
    """Of the pods; bound to a cloud identity that may read and write `storage`."""
    project_config_map: str = "rayforest-project"
    """Holds project.toml for the jobs."""
    command: str = "run"
    """Of rayforest, as the jobs carry it out."""
    schedule: str = "0 2 * * *"
    """When the nightly job runs, as cron writes it."""
    time_zone: str = "Etc/UTC"


class ClusterDescription(Section):
    """A cluster in a cloud. Everything has a default but what belongs to an account."""

    cluster: ClusterSection = ClusterSection()
    head: HeadSection = HeadSection()
    workers: WorkersSection = WorkersSection()
    aws: AwsSection = AwsSection()
    gcp: GcpSection = GcpSection()
    azure: AzureSection = AzureSection()
    kuberay: KubernetesSection = KubernetesSection()

    @property
    def name(self) -> str:
        """Of the cluster."""
        return self.cluster.name

    @property
    def image(self) -> str:
        """Name and tag."""
        return self.cluster.image or f"rayforest:{version('rayforest')}"


def load_description(path: Path | None, overrides: Sequence[str] = ()) -> ClusterDescription:
    """Read a description; without a file, the defaults.

    Args:
        path: a TOML file.
        overrides: `section.key=value` texts, as for --set.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong.
    """
    subject = "the description" if path is None else str(path)
    absent = (
        "leave it out for the defaults, or write one: the documentation's page of clusters in clouds shows each key"
    )
    text = "" if path is None else read_toml(path, "cluster description", absent)
    table, given = parse_toml(text, f"cluster description {subject}", overrides)
    try:
        return ClusterDescription.model_validate(table)
    except ValidationError as error:
        raise explain(error, table, text, subject, given, names_at=_names_at) from None


def _names_at(path: tuple[str, ...]) -> list[str]:
    model: type[BaseModel] = ClusterDescription
    for part in path:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)
