#!/usr/bin/env bash
# Builds the image with buildah, docker or podman, whichever is there: scripts/image.sh build|sbom|load. See docs/image.md.
# A person's settings for pip and apt (an index, a proxy, certificates) are handed to the build as secrets: they reach
# the package servers from inside it and stay out of the image.
set -euo pipefail
cd "$(dirname "$0")/.."

IMAGE=${IMAGE:-localhost/visualindex:dev}
VARIANT=${VARIANT:-cpu}
SBOM=${SBOM:-dist/visualindex-$VARIANT.cdx.json}
CERTIFICATES=${CERTIFICATES:-$(python3 -m pip config list 2>/dev/null | sed -n "s/^.*\.cert='\(.*\)'$/\1/p" | tail -1)}

# Root inside a container has no right to what buildah's other ways need.
if [ "$(id -u)" = 0 ]; then export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot} STORAGE_DRIVER=${STORAGE_DRIVER:-overlay}; fi

builder() {
  if [ -n "${BUILDER:-}" ]; then echo "$BUILDER"; return; fi
  if command -v buildah >/dev/null; then echo buildah; return; fi
  for tool in podman docker; do
    if "$tool" info >/dev/null 2>&1; then echo "$tool"; return; fi
  done
  echo "scripts/image.sh: an image builder is missing: apt-get install buildah, or have docker or podman run" >&2
  return 1
}

# `pip config list` as a pip.conf whose certificates lie where the build finds them.
pip_settings() {
  python3 - <<'PYTHON'
import ast, subprocess, sys
listing = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
print("[global]")
settings = {}
for line in sorted(listing.splitlines(), key=lambda line: line.startswith(":env:")):
    name, _, literal = line.partition("=")
    settings[name.rpartition(".")[2]] = str(ast.literal_eval(literal))
settings.pop("find-links", None)  # a folder of this machine
if "cert" in settings:
    settings["cert"] = "/run/secrets/ca.crt"
for name, value in settings.items():
    print(name, "=", value.replace("\n", "\n    "))
PYTHON
}

# How apt reaches its servers: proxies and what is asked of their certificates and dates.
apt_settings() {
  if command -v apt-config >/dev/null; then
    apt-config dump Acquire | grep -E '^Acquire::(http|https|ftp|Check-|Retries)' || true
  fi
}

build() { # target image_or_output [option...]
  local target=$1 secrets; shift
  secrets=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder's name is known now
  trap "rm -rf '$secrets'" EXIT
  pip_settings >"$secrets/pip.conf"
  apt_settings >"$secrets/apt.conf"
  cat "${CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}" >"$secrets/ca.crt"
  local tool options=(--target "$target" --network host --build-arg "VARIANT=$VARIANT" --build-arg "VERSION=$(version)" --build-arg "REVISION=$(revision)")
  tool=$(builder)
  if [ -n "${BASE:-}" ]; then options+=(--build-arg "BASE=$BASE"); fi
  for name in pip.conf apt.conf ca.crt; do options+=(--secret "id=$name,src=$secrets/$name"); done
  case $tool in
    buildah) buildah bud --layers "${options[@]}" "$@" . ;;
    *) DOCKER_BUILDKIT=1 "$tool" build "${options[@]}" "$@" . ;;
  esac
}

save() { # archive
  local tool
  tool=$(builder)
  case $tool in
    buildah) buildah push --quiet "$IMAGE" "oci-archive:$1:$IMAGE" ;;
    *) "$tool" save --output "$1" "$IMAGE" ;;
  esac
}

version() { sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml; }
revision() { git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown; }

case ${1:-build} in
  build) build runtime -t "$IMAGE" ;;
  sbom)
    mkdir -p "$(dirname "$SBOM")"
    work=$(mktemp -d -p "$(dirname "$SBOM")")
    build sbom --output "type=local,dest=$work"
    mv "$work/sbom.cdx.json" "$SBOM"
    rmdir "$work"
    echo "$SBOM" ;;
  load)
    archive=$(mktemp -d)
    trap "rm -rf '$archive'" EXIT
    save "$archive/image.tar"
    "${2:?the folder of the cluster}/load" --tar "$archive/image.tar" ;;
  *) echo "usage: scripts/image.sh build | sbom | load CLUSTER" >&2; exit 2 ;;
esac
