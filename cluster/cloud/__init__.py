"""Clusters in clouds: files for Ray's launcher and for KubeRay, rendered from one small description."""
