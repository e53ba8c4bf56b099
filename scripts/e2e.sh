#!/usr/bin/env bash
# The proof on a real cluster: finds or starts one, gives it the images, tells the story of tests/e2e and prints what it
# measured. `scripts/e2e.sh [--short] [pytest options]`. See docs/e2e.md.
set -euo pipefail
cd "$(dirname "$0")/.."

CLUSTER=${CLUSTER:-../shared/cluster}
export BIN=${BIN:-/var/cache/one-node-k8s/bin} RUN=${RUN:-/var/tmp/one-node-k8s}
IMAGE=${VISUALINDEX_E2E_IMAGE:-localhost/visualindex:e2e}
KIND=visualindex-e2e
started=
scratch=$(mktemp -d)

say() { echo "e2e: $*"; }
fail() { echo "e2e: $*" >&2; exit 1; }

finish() { # what was started here ends here
  local status=$?
  case $started in
    one-node) "$CLUSTER/down" >/dev/null || status=1 ;;
    kind) kind delete cluster --name "$KIND" || status=1 ;;
  esac
  rm -rf "$scratch"
  exit $status
}
trap finish EXIT

reaches() { kubectl --request-timeout=5s get --raw /readyz >/dev/null 2>&1; }

find_cluster() {
  export PATH=$BIN:$PATH
  if [ -n "${VISUALINDEX_E2E_KUBECONFIG:-}" ]; then
    export KUBECONFIG=$VISUALINDEX_E2E_KUBECONFIG
    reaches || fail "no cluster answers by $KUBECONFIG (VISUALINDEX_E2E_KUBECONFIG)"
  elif reaches; then
    say "the cluster of the current kubeconfig: $(kubectl config current-context)"
  elif command -v kind >/dev/null && docker info >/dev/null 2>&1; then
    export KUBECONFIG=$scratch/kubeconfig
    started=kind
    kind create cluster --name "$KIND" --wait 120s
  elif [ -x "$CLUSTER/up" ]; then
    export KUBECONFIG=$RUN/admin.kubeconfig
    if reaches; then
      say "a one-node cluster runs already"
    else
      started=one-node
      "$CLUSTER/up" # says by itself what is missing
    fi
  else
    fail "no cluster: set VISUALINDEX_E2E_KUBECONFIG, or have docker and kind"
  fi
}

one_node() { [ "${KUBECONFIG:-}" = "$RUN/admin.kubeconfig" ] && [ -x "$CLUSTER/load" ]; }

has_image() { CONTAINERD_ADDRESS=$RUN/containerd.sock ctr -n k8s.io images ls -q | grep -qx "$1"; }

base_image() { # what stands in for python:3.12-slim where nothing can be pulled
  [ -z "${BASE:-}" ] || return 0
  command -v buildah >/dev/null || fail "images are built with: apt-get install buildah debootstrap"
  export BASE=localhost/debian-python:bookworm
  "$CLUSTER/base-image" >/dev/null
}

give_images() {
  if one_node; then
    if [ -z "${VISUALINDEX_E2E_BUILT:-}" ]; then
      base_image
      IMAGE=$IMAGE scripts/image.sh build >"$scratch/build.log" 2>&1 || { tail -30 "$scratch/build.log" >&2; fail "the image was not built"; }
      IMAGE=$IMAGE scripts/image.sh load "$CLUSTER"
    fi
    for server in redis minio; do
      local name=localhost/visualindex-$server:e2e
      if ! has_image "$name"; then
        base_image
        mkdir -p "$scratch/servers"
        cp "$BIN/minio" "$scratch/servers/"
        IMAGE=$name FILE=tests/e2e/images/Dockerfile TARGET=$server CONTEXT=$scratch/servers scripts/image.sh build >"$scratch/build.log" 2>&1 ||
          { tail -30 "$scratch/build.log" >&2; fail "$name was not built"; }
        IMAGE=$name scripts/image.sh load "$CLUSTER"
      fi
    done
    export VISUALINDEX_E2E_REDIS=localhost/visualindex-redis:e2e VISUALINDEX_E2E_MINIO=localhost/visualindex-minio:e2e
  elif [ "$started" = kind ]; then
    IMAGE=$IMAGE scripts/image.sh build
    kind load docker-image --name "$KIND" "$IMAGE"
  else
    say "your cluster has to be able to pull $IMAGE (VISUALINDEX_E2E_IMAGE), and the chart's Redis and MinIO"
  fi
}

kuberay() {
  kubectl get crd rayservices.ray.io >/dev/null 2>&1 && return
  if [ "$started" = kind ] && command -v helm >/dev/null; then
    helm install kuberay-operator kuberay-operator --repo https://ray-project.github.io/kuberay-helm/ --wait
  else
    fail "KubeRay is missing: helm install kuberay-operator kuberay-operator --repo https://ray-project.github.io/kuberay-helm/"
  fi
}

arguments=()
for argument in "$@"; do
  if [ "$argument" = --short ]; then export VISUALINDEX_E2E_SHORT=1; else arguments+=("$argument"); fi
done

command -v kubectl >/dev/null || [ -x "$BIN/kubectl" ] || [ ! -x "$CLUSTER/build" ] || "$CLUSTER/build" >/dev/null
find_cluster
command -v kubectl >/dev/null || fail "kubectl is missing"
kuberay
give_images
export VISUALINDEX_E2E=1 VISUALINDEX_E2E_IMAGE=$IMAGE
.venv/bin/python -m pytest tests/e2e -m cluster -x -q "${arguments[@]}"
