# The image of everything VisualIndex runs on Kubernetes: the pods of Ray, the operator and its jobs. See docs/image.md.
#
#   VARIANT=cpu   serves without a GPU; no torch in it
#   VARIANT=gpu   torch with its CUDA libraries and Faiss for GPUs; the same stages with other extras
#
# Built and run here: cpu. The gpu variant has been neither built nor run.

ARG BASE=python:3.12-slim

FROM ${BASE} AS base
ENV PATH=/opt/visualindex/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8
# What KubeRay's probes run is bash, wget and grep. The standard library is compiled because nobody can do it later.
RUN --mount=type=secret,id=apt.conf,target=/run/secrets/apt.conf \
    export APT_CONFIG=/run/secrets/apt.conf DEBIAN_FRONTEND=noninteractive \
    && apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends bash ca-certificates grep wget >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && python3 -m compileall -q "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" -x '/(test|tests|lib2to3)/'

# The dependencies alone, so that a change of the sources installs none of them again: the project they are read from is
# empty but for its metadata.
FROM base AS dependencies
ARG VARIANT=cpu
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN --mount=type=secret,id=pip.conf,target=/run/secrets/pip.conf --mount=type=secret,id=ca.crt,target=/run/secrets/ca.crt \
    mkdir -p core/visualindex serving/visualindex_serving jobs/visualindex_jobs operator/visualindex_operator \
    && touch core/visualindex/__init__.py serving/visualindex_serving/__init__.py jobs/visualindex_jobs/__init__.py operator/visualindex_operator/__init__.py README.md LICENSE \
    && python3 -m venv /opt/visualindex \
    && export PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_BUILD_CONSTRAINT=constraints.txt \
    && pip install --no-cache-dir --quiet --constraint constraints.txt pip \
    && pip install --no-cache-dir --constraint constraints.txt ".[${VARIANT},local,operator,cluster]" \
    && pip uninstall -y -q visualindex

FROM dependencies AS application
COPY README.md LICENSE ./
COPY core core
COPY serving serving
COPY jobs jobs
COPY operator operator
RUN --mount=type=secret,id=pip.conf,target=/run/secrets/pip.conf --mount=type=secret,id=ca.crt,target=/run/secrets/ca.crt \
    PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_BUILD_CONSTRAINT=constraints.txt \
    pip install --no-cache-dir --no-deps --root /out .

# pip goes: nothing is installed into a file system that is read-only.
FROM dependencies AS lean
RUN pip uninstall -y -q pip

FROM base AS runtime
# A login shell (KubeRay has started Ray in one) resets PATH.
RUN printf 'PATH=/opt/visualindex/bin:$PATH\n' >/etc/profile.d/visualindex.sh \
    && groupadd --gid 65532 visualindex \
    && useradd --uid 65532 --gid 65532 --key UID_MAX=65532 --no-log-init --home-dir /var/lib/visualindex --create-home --shell /bin/bash visualindex
COPY --from=lean /opt/visualindex /opt/visualindex
COPY --from=application /out /
ENV PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    HOME=/var/lib/visualindex \
    VISUALINDEX_STATE_DIR=/var/lib/visualindex \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG VARIANT=cpu
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="VisualIndex" \
      org.opencontainers.image.description="Visual search as one Kubernetes resource" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      dev.visualindex.variant="${VARIANT}"
WORKDIR /var/lib/visualindex
USER 65532:65532
CMD ["visualindex", "--help"]

# What is in the image: its Python packages as they are installed, then Debian's. Not a part of the image.
FROM runtime AS inventory
USER root
WORKDIR /src
RUN --mount=type=secret,id=pip.conf,target=/run/secrets/pip.conf --mount=type=secret,id=ca.crt,target=/run/secrets/ca.crt \
    --mount=type=bind,target=/src \
    python3 -m venv /inventory \
    && PIP_CONFIG_FILE=/run/secrets/pip.conf /inventory/bin/pip install --no-cache-dir --quiet --constraint constraints.txt cyclonedx-bom \
    && /inventory/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
         --output-format JSON --output-file /inventory/python.cdx.json /opt/visualindex \
    && /inventory/bin/python scripts/sbom.py /inventory/python.cdx.json /inventory/sbom.cdx.json

FROM scratch AS sbom
COPY --from=inventory /inventory/sbom.cdx.json /
