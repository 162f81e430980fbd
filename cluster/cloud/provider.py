"""Where a cluster can be rendered for. Apart, because the command line needs it at once."""

from __future__ import annotations

from enum import StrEnum


class Provider(StrEnum):
    """A cloud whose machines Ray's launcher starts, or KubeRay on any Kubernetes."""

    AWS = "aws"
    GCP = "gcp"
    AZURE = "azure"
    KUBERAY = "kuberay"
