# One image for every subcommand of kvidx. `npm run image` builds it for the test cluster, from local base images.
#   docker build -t kvidx-operator:0.1.0 .
# Both bases: Debian 12 (it has the RocksDB 7.8 that kvidxkit was made for) with Node 24; the first also with npm.
ARG BUILD_IMAGE=docker.io/library/node:24-bookworm-slim
ARG BASE_IMAGE=docker.io/library/node:24-bookworm-slim

FROM ${BUILD_IMAGE} AS build
ARG NPM_CONFIG_REGISTRY
WORKDIR /build
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts --no-audit --no-fund
COPY . .
RUN node scripts/build.ts && node scripts/image-files.ts /app

FROM ${BASE_IMAGE}
# the engines' libraries, unless the base has them already; and the package managers that some bases bring
RUN set -e; \
    if ! ldconfig -p | grep -q librocksdb.so.7.8 || ! ldconfig -p | grep -q liblmdb.so.0; then \
      apt-get update; \
      apt-get install -y --no-install-recommends ca-certificates librocksdb7.8 liblmdb0; \
      rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*; \
    fi; \
    rm -rf /usr/local/lib/node_modules /usr/local/include/node /opt/yarn* /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /usr/local/bin/yarn*
COPY --from=build /app /app
RUN ln -s /app/bin/kvidx /usr/local/bin/kvidx && ln -s /app/bin/kvidx /usr/local/bin/kubectl-kvidx \
    # a volume that is mounted there for the first time takes its owner from here
    && install -d -o 10001 -g 10001 -m 0700 /data && install -d -o 10001 -g 10001 -m 2770 /run/kvidx
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="kvidx-operator" \
      org.opencontainers.image.description="Operator, sidecar and command line for kvidxkit databases" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# the engine process has several threads: without this each gets arenas and young generations of its own size
ENV NODE_ENV=production NODE_OPTIONS=--max-semi-space-size=4 MALLOC_ARENA_MAX=2
# numeric, so that runAsNonRoot can be checked; the file system may be read-only: only /data, /run/kvidx and /tmp are ever written
USER 10001:10001
EXPOSE 7400 8080
ENTRYPOINT ["kvidx"]
CMD ["--help"]
