# syntax=docker/dockerfile:1
#
# Two images:
#
#   docker build --target pods       -t headwater:dev .             headwater-kv, headwater-watchhub, headwater-leasekeeper
#   docker build --target standalone -t headwater-standalone:dev .  headwater, without cgo and without FoundationDB
#
# In a release pin the bases by digest (--build-arg GO_IMAGE=golang:…@sha256:…), and say which commit it is
# (--build-arg COMMIT=$(git rev-parse HEAD)): the tree that is sent to the builder has no history. The tags of the two runtime bases
# move on purpose: that is how a rebuild gets Debian's security fixes.
#
# Every RUN begins with `set -eu` for any POSIX shell. SHELL and HEALTHCHECK are no part of OCI's image format: builders that write it
# ignore both, so that nothing may depend on SHELL, and whoever runs the pods states their health check (docker-compose.yml, k8s/).

ARG GO_IMAGE=golang:1.26.8-bookworm
ARG PODS_BASE=debian:bookworm-slim
ARG STANDALONE_BASE=gcr.io/distroless/static-debian12:nonroot

# --- FoundationDB's client package: libfdb_c.so and its headers -------------------------------------------------------
FROM ${GO_IMAGE} AS fdb
# The version that Headwater is tested on, as the servers' in docker-compose.yml and k8s/: client and server speak the same protocol only
# within one minor version (7.3).
ARG FDB_VERSION=7.3.79
# SHA-256 of the package for the target architecture. Give it in every build that matters; without it the package is only
# compared with the checksum that lies next to it in the release, which tells damage but not fraud.
ARG FDB_CLIENTS_SHA256=""
# Another place with the same layout: a mirror over https, or file:///… of a directory that the builder can see.
ARG FDB_RELEASES=https://github.com/apple/foundationdb/releases/download
ARG TARGETARCH
WORKDIR /fdb
RUN set -eu; \
    case "${TARGETARCH:-$(dpkg --print-architecture)}" in \
      amd64) arch=amd64 ;; \
      arm64) arch=aarch64 ;; \
      *) echo "FoundationDB has no client package for ${TARGETARCH}" >&2; exit 1 ;; \
    esac; \
    deb="foundationdb-clients_${FDB_VERSION}-1_${arch}.deb"; \
    url="${FDB_RELEASES}/${FDB_VERSION}/${deb}"; \
    curl --fail --silent --show-error --location --proto '=https,file' --output "${deb}" "${url}"; \
    want="${FDB_CLIENTS_SHA256}"; \
    if [ -z "${want}" ]; then \
      curl --fail --silent --show-error --location --proto '=https,file' --output sum "${url}.sha256"; \
      want="$(cut -d ' ' -f 1 sum)"; \
      echo "FDB_CLIENTS_SHA256 is not given; the release says ${want}"; \
    fi; \
    echo "${want}  ${deb}" | sha256sum --check --strict; \
    dpkg-deb --extract "${deb}" /fdb/root; \
    rm "${deb}"; \
    test -s /fdb/root/usr/lib/libfdb_c.so; \
    test -s /fdb/root/usr/include/foundationdb/fdb_c.h

# --- The three services, with cgo -------------------------------------------------------------------------------------
FROM ${GO_IMAGE} AS build-pods
COPY --from=fdb /fdb/root/usr/include/foundationdb /usr/include/foundationdb
COPY --from=fdb /fdb/root/usr/lib/libfdb_c.so /usr/lib/libfdb_c.so
WORKDIR /src
COPY . .
ARG COMMIT=""
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    set -eu; \
    export GOFLAGS="-trimpath -buildvcs=false"; \
    flags="-s -w -X github.com/headwaterdb/headwater/libs/version.commit=${COMMIT}"; \
    for pod in kv watchhub leasekeeper; do \
      CGO_ENABLED=1 go build -tags foundationdb -ldflags="${flags}" -o "/out/headwater-${pod}" "./services/${pod}"; \
    done; \
    CGO_ENABLED=0 go build -ldflags="${flags}" -o /out/headwaterctl ./services/headwaterctl

FROM ${PODS_BASE} AS pods
COPY --from=fdb /fdb/root/usr/lib/libfdb_c.so /usr/lib/libfdb_c.so
COPY --from=build-pods /out/ /usr/local/bin/
COPY --chmod=0755 deploy/healthcheck /usr/local/bin/headwater-healthcheck
# The history cache of a hub; an emptyDir or volume in its place must be writable for 65532.
RUN set -eu; install --directory --owner=65532 --group=65532 /var/lib/headwater; ldconfig
USER 65532:65532
# Where pods that are started with --listen-admin-urls=unix:///tmp/admin.sock are found by headwaterctl.
ENV HEADWATERCTL_ENDPOINTS=/tmp/admin.sock
EXPOSE 2379 2381
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["headwater-healthcheck", "2381"]
# Which of the three it is is said by whoever runs it.
CMD ["headwater-kv", "--help"]

# --- Standalone, static -----------------------------------------------------------------------------------------------
FROM ${GO_IMAGE} AS build-standalone
WORKDIR /src
COPY . .
ARG COMMIT=""
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    set -eu; \
    export CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"; \
    flags="-s -w -X github.com/headwaterdb/headwater/libs/version.commit=${COMMIT}"; \
    go build -ldflags="${flags}" -o /out/headwater ./services/standalone; \
    go build -ldflags="${flags}" -o /out/headwaterctl ./services/headwaterctl; \
    install --directory --owner=65532 --group=65532 /out/data

FROM ${STANDALONE_BASE} AS standalone
COPY --from=build-standalone /out/headwater /out/headwaterctl /usr/local/bin/
COPY --from=build-standalone --chown=65532:65532 /out/data /var/lib/headwater
USER 65532:65532
# `docker exec CONTAINER headwaterctl usage` finds the server of its container.
ENV HEADWATERCTL_ENDPOINTS=/var/lib/headwater/admin.sock
VOLUME /var/lib/headwater
EXPOSE 2379 2381
STOPSIGNAL SIGTERM
# There is no shell in this image, and no curl: the server's own tool asks it over the admin socket.
HEALTHCHECK --interval=5s --timeout=8s --start-period=60s --retries=3 CMD ["/usr/local/bin/headwaterctl", "version"]
ENTRYPOINT ["/usr/local/bin/headwater"]
# Clients are told the container's own address, unless --advertise-client-urls (HEADWATER_ADVERTISE_CLIENT_URLS) says another.
CMD ["--data-dir=/var/lib/headwater", "--listen-client-urls=http://0.0.0.0:2379", "--listen-metrics-urls=http://0.0.0.0:2381"]
