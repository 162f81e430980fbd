"""`rayforest cluster render`: files for a cluster in a cloud, to be read, kept in version control, and applied.

The same description gives the same bytes. Nothing is sent anywhere, and no file holds a secret.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rayforest.cluster.cloud.description import ClusterDescription
from rayforest.cluster.cloud.image import dockerfile, requirements
from rayforest.cluster.cloud.kuberay import manifests
from rayforest.cluster.cloud.launcher import TOKEN, launcher_file
from rayforest.cluster.cloud.provider import Provider
from rayforest.engine.stores.object_uri import ObjectUri
from rayforest.errors import ConfigError

GRAFANA = Path(__file__).parents[1] / "grafana.json"
"""A dashboard over the metrics that runs count, whichever cluster they run on."""


@dataclass(frozen=True)
class Rendered:
    """Files that were written."""

    provider: Provider
    folder: Path
    files: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """The JSON object of the command, without its name."""
        return {"provider": self.provider.value, "folder": str(self.folder), "files": self.files}

    def __str__(self) -> str:
        return "\n".join([f"wrote to {self.folder}:", *(f"  {name}" for name in self.files)])


def render(description: ClusterDescription, provider: Provider) -> dict[str, str]:
    """The text of each file, by its name.

    Raises:
        ConfigError: the description lacks what belongs to an account.
    """
    texts = {
        "Dockerfile": dockerfile(description, provider),
        "requirements.in": requirements(provider),
        "grafana.json": GRAFANA.read_text(encoding="utf-8"),
    }
    if provider is Provider.KUBERAY:
        for name, documents in manifests(description).items():
            texts[name] = _yaml(documents, [f"KubeRay 1.6 or newer: kubectl apply -f {name}"])
        return texts
    how = [
        "Ray's cluster launcher, from a machine that reaches the nodes' private addresses:",
        "",
        f"    ray get-auth-token --generate    # once: {TOKEN}",
        "    ray up cluster.yaml",
        "    ray dashboard cluster.yaml       # the dashboard of the head at 127.0.0.1:8265, for rayforest submit",
        "    ray down cluster.yaml",
    ]
    texts["cluster.yaml"] = _yaml([launcher_file(description, provider)], how)
    if provider is Provider.AWS:
        texts["node-policy.json"] = json.dumps(_aws_policy(description), indent=2) + "\n"
    return texts


def write_rendered(
    description: ClusterDescription, provider: Provider, folder: Path, *, overwrite: bool = False
) -> Rendered:
    """Render into a folder.

    Args:
        description: of the cluster.
        provider: where it is to be.
        folder: made where it is absent.
        overwrite: whether files that hold something else may be replaced.

    Raises:
        ConfigError: the description lacks something, or a file is there and holds something else.
    """
    texts = render(description, provider)
    changed = [name for name, text in texts.items() if (folder / name).exists() and (folder / name).read_text() != text]
    if changed and not overwrite:
        raise ConfigError(
            f"{folder} holds other files of these names",
            expected="a folder without them, or with the same",
            found=", ".join(changed),
            next_step="choose another folder, or give --overwrite: what was changed by hand is lost",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"files cannot be written to {folder}",
            expected="a folder that may be written to",
            found=(error.strerror or "").lower(),
            next_step="choose another with --out",
        ) from None
    return Rendered(provider, folder, tuple(sorted(texts)))


def _yaml(documents: Sequence[dict[str, Any]], head: Sequence[str]) -> str:
    told = "".join(f"# {line}".rstrip() + "\n" for line in head)
    return told + str(yaml.dump_all(documents, Dumper=_PlainDumper, sort_keys=False, width=120))


class _PlainDumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Without anchors: each place says what it means."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _aws_policy(description: ClusterDescription) -> dict[str, Any]:
    """For the role of aws.instance_profile: the bucket, and what Ray's autoscaler does with machines."""
    statements: list[dict[str, Any]] = [
        {
            "Sid": "WorkersOfTheCluster",
            "Effect": "Allow",
            "Action": ["ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags", "ec2:Describe*"],
            "Resource": "*",
        },
        {
            "Sid": "RoleOfTheWorkers",
            "Effect": "Allow",
            "Action": ["iam:PassRole", "iam:GetInstanceProfile"],
            "Resource": [
                f"arn:aws:iam::*:role/{description.aws.instance_profile}",
                f"arn:aws:iam::*:instance-profile/{description.aws.instance_profile}",
            ],
        },
    ]
    if description.cluster.storage is not None:
        place = ObjectUri.parse(description.cluster.storage)
        if place.scheme != "s3":
            raise ConfigError(
                "cluster.storage is not in this cloud",
                expected="s3://BUCKET, or none",
                found=description.cluster.storage,
                next_step="name the bucket that the nodes may read and write",
            )
        bucket = f"arn:aws:s3:::{place.bucket}"
        below = f"{bucket}/{place.key}/*" if place.key else f"{bucket}/*"
        statements += [
            {"Sid": "ListTables", "Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": bucket},
            {
                "Sid": "TablesAndResults",
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                "Resource": below,
            },
        ]
    return {"Version": "2012-10-17", "Statement": statements}
