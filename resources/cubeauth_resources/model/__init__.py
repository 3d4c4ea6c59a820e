"""The resources as frozen values, read strictly from parsed manifests."""

from cubeauth_resources.model.objects import API_VERSION, AuthKey, Capability, ClusterRef, DeletionPolicy, ObjectRef
from cubeauth_resources.model.parse import KINDS, parse_manifest

__all__ = ["API_VERSION", "KINDS", "AuthKey", "Capability", "ClusterRef", "DeletionPolicy", "ObjectRef", "parse_manifest"]
