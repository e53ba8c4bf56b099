"""Ways in which the chart is installed; every one of them must lint, render and be taken by an API server."""

from typing import Any

VALUE_SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "trial": {"dev": {"enabled": True}},
    "trial on volumes": {
        "dev": {"enabled": True, "persistence": {"enabled": True, "storageClass": "standard"}},
        "redis": {"enabled": True, "persistence": {"enabled": True, "size": "2Gi"}},
    },
    "redis": {"redis": {"enabled": True}},
    "redis with a given password": {
        "redis": {"enabled": True, "passwordSecret": {"name": "mine", "key": "pw"}}
    },
    "redis elsewhere": {
        "redis": {"address": "redis.example.org:6379", "passwordSecret": {"name": "mine", "key": "pw"}}
    },
    "some namespaces": {"operator": {"namespaces": ["shop", "museum"]}},
    "two operators": {"operator": {"replicas": 2}, "peering": {"enabled": True}},
    "two operators of one namespace": {
        "operator": {"replicas": 2, "namespaces": ["indexes"]},
        "peering": {"enabled": True, "name": "search"},
    },
    "monitoring": {"monitoring": {"enabled": True, "labels": {"release": "prometheus"}}},
    "ingress": {
        "routes": [
            {
                "index": "fashion",
                "host": "search.example.org",
                "className": "nginx",
                "tlsSecret": "search-tls",
                "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "256m"},
            }
        ]
    },
    "gateways": {
        "routes": [
            {
                "index": "fashion",
                "host": "a.example.org",
                "gateway": {"name": "shared", "namespace": "infra"},
            },
            {
                "index": "stamps",
                "cluster": "fashion",
                "host": "b.example.org",
                "gateway": {"className": "envoy"},
                "tlsSecret": "b-tls",
            },
        ]
    },
    "scheduling": {
        "operator": {
            "priorityClassName": "system-cluster-critical",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "control", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "podAnnotations": {"team": "search"},
            "podLabels": {"team": "search"},
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        }
    },
    "nothing optional": {
        "crds": {"install": False},
        "serviceAccount": {"create": False, "name": "mine"},
        "rbac": {"create": False},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
    },
    "named": {
        "fullnameOverride": "search",
        "commonLabels": {"cost-centre": "7"},
        "image": {
            "repository": "registry.example.org/visualindex",
            "digest": "sha256:" + "0" * 64,
            "pullSecrets": ["pull"],
        },
    },
}
