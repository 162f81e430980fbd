"""The container image of all nodes: slim, pinned, and a user without rights."""

from __future__ import annotations

from importlib.metadata import requires, version

from rayforest.cluster.cloud.description import ClusterDescription
from rayforest.cluster.cloud.provider import Provider

SDKS = {
    Provider.AWS: ("boto3", "botocore"),
    Provider.GCP: ("google-api-python-client", "google-auth", "cryptography"),
    Provider.AZURE: (
        "azure-common",
        "azure-core",
        "azure-identity",
        "azure-mgmt-compute",
        "azure-mgmt-network",
        "azure-mgmt-resource",
        "msrestazure",
    ),
    Provider.KUBERAY: (),
}
"""With which Ray's autoscaler, on the head, asks a provider for nodes."""


def dockerfile(description: ClusterDescription, provider: Provider) -> str:
    """The text of a Dockerfile; its folder holds the wheel and the lock file, as its first lines say."""
    tools = "" if provider is Provider.KUBERAY else " openssh-client rsync"  # the launcher copies files with them
    lock = f"uv pip compile --generate-hashes --python-version {description.cluster.python}"
    lines = [
        f"# Image of all nodes of {description.name}: rayforest {version('rayforest')}, Ray {version('ray')}.",
        "#",
        "# Beside this file it needs the wheel of this rayforest, and a lock file with hashes of all that it takes:",
        "#",
        "#     pip wheel --no-deps --wheel-dir . rayforest",
        f"#     {lock} -o requirements.lock requirements.in",
        f"#     docker build --tag {description.image} .",
        "",
        f"FROM python:{description.cluster.python}-slim AS build",
        "COPY requirements.lock rayforest-*.whl /build/",
        "RUN python -m venv /opt/rayforest \\",
        " && /opt/rayforest/bin/pip install --no-cache-dir --require-hashes --requirement /build/requirements.lock \\",
        " && /opt/rayforest/bin/pip install --no-cache-dir --no-deps /build/rayforest-*.whl",
        "",
        f"FROM python:{description.cluster.python}-slim",
        "RUN apt-get update \\",
        f" && apt-get install --yes --no-install-recommends libgomp1 procps{tools} \\",
        " && rm -rf /var/lib/apt/lists/* \\",
        " && groupadd --gid 1000 rayforest \\",
        " && useradd --uid 1000 --gid 1000 --create-home rayforest",
        "COPY --from=build /opt/rayforest /opt/rayforest",
        'ENV PATH="/opt/rayforest/bin:$PATH" \\',
        "    PYTHONDONTWRITEBYTECODE=1 \\",
        "    PYTHONUNBUFFERED=1 \\",
        "    RAY_AUTH_MODE=token \\",
        "    RAY_USAGE_STATS_ENABLED=0",
        "USER 1000:1000",
        "WORKDIR /home/rayforest",
        "",
    ]
    return "\n".join(lines)


def requirements(provider: Provider) -> str:
    """The text of requirements.in: what is locked for the image."""
    own = [line for line in requires("rayforest") or [] if "extra ==" not in line]
    own = [f"ray[default]=={version('ray')}" if line.startswith("ray[") else line for line in own]
    return "\n".join(["# What the image holds beside rayforest itself.", *own, *SDKS[provider], ""])
