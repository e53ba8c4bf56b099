"""From an index to a pod's port and a key: endpoints, Secrets, refusals, files of replicas."""

import base64
import json

import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex_operator.api_key import first_key
from visualindex_operator.kubectl.refusals import refusal
from visualindex_operator.kubectl.replica_logs import Part, reading, replica_logs
from visualindex_operator.kubectl.services import Service, parse_endpoint


@pytest.mark.parametrize(
    ("url", "service"),
    [
        (
            "http://shop-serve-svc.media.svc:8000/fashion",
            Service("media", "shop-serve-svc", 8000, "/fashion"),
        ),
        ("http://shop-serve-svc:8000/", Service("here", "shop-serve-svc", 8000, "")),
        ("https://ray.media.svc.cluster.local", Service("media", "ray", 443, "")),
    ],
)
def test_an_endpoint_names_a_service_and_a_path(url: str, service: Service) -> None:
    assert parse_endpoint(url, "here") == service


def entries(**texts: str) -> dict[str, str]:
    return {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}


def test_the_admin_key_is_taken_or_else_the_first() -> None:
    assert first_key("s", entries(a="vi_a", admin="vi_admin\n")) == "vi_admin"
    assert first_key("s", entries(b="vi_b", a='{"key": "vi_a", "scopes": ["search"]}')) == "vi_a"


@pytest.mark.parametrize("data", [{}, entries(admin='{"scopes": []}')])
def test_a_secret_without_a_key_is_named(data: dict[str, str]) -> None:
    with pytest.raises(ProblemError, match="Secret keys"):
        first_key("keys", data)


def test_a_refusal_names_the_verb_and_the_resource() -> None:
    message = 'secrets "k" is forbidden: User "eve" cannot get resource "secrets" in API group "" in the namespace "shop"'
    problem = refusal(403, json.dumps({"message": message}).encode(), "Secret k", "get secrets")
    assert problem.detail == "eve may not do this: ask for a Role that allows `get secrets` in namespace shop"


def test_a_refusal_without_a_reason_names_what_was_tried() -> None:
    problem = refusal(403, b"", "pod p", "create pods/exec")
    assert problem.detail == "you may not do this: ask for a Role that allows `create pods/exec`"
    assert problem.type is ProblemType.FORBIDDEN


LISTING = [
    "replica_gateway-fashion_gateway_aaaa.log",
    "replica_index-fashion_shard-0_bbbb.log",
    "replica_index-fashion_shard-0_cccc.log",
    "replica_index-shoes_shard-0_dddd.log",
    "--",
    "replica_gateway-fashion_gateway_aaaa.log",
    "replica_index-fashion_shard-0_cccc.log",
    "replica_index-shoes_shard-0_dddd.log",
]


def test_files_of_live_replicas_and_of_ended_ones_are_told_apart() -> None:
    live = replica_logs(LISTING, "fashion", None, ended=False)
    assert [log.label for log in live] == ["gateway/aaaa", "shard-0/cccc"]
    assert [log.label for log in replica_logs(LISTING, "fashion", Part.SHARD, ended=True)] == ["shard-0/bbbb"]
    assert reading(live[1], 5, follow=False)[:3] == ["tail", "-n", "5"]
