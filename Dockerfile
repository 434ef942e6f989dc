# syntax=docker/dockerfile:1

# Images: `server` (the default; nothing in it but both binaries), `worker` (with git and a shell, since jobs need them),
# `emulator` (AWS for docker-compose.yml). docker build --target NAME .

FROM rust:1.95-alpine AS build
# Alpine keeps one version of a package in a release: one that is pinned would soon be gone.
# hadolint ignore=DL3018
RUN apk add --no-cache build-base ca-certificates cmake linux-headers perl
WORKDIR /src
COPY . .
# Alpine's toolchain links statically. The folders are caches, and so what is built is taken out in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release -p airunner-server -p airunner-cli \
 && install -D -m 0755 -t /out/usr/local/bin target/release/airunner-server target/release/airunner-cli \
 && install -D -m 0644 -t /out/etc/ssl/certs /etc/ssl/certs/ca-certificates.crt \
 && mkdir /data


FROM python:3.13-slim AS emulator
RUN pip install --no-cache-dir ministack==1.5.33 cryptography==50.0.2
ENV GATEWAY_PORT=4566 BIND_HOST=0.0.0.0 IOT_MTLS_ENABLED=0 SERVICES=dynamodb,kms,s3,secretsmanager,ssm,sts
EXPOSE 4566
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["ministack"]


# It begins as root so that jobs can run as nobody, who can't read the worker's key.
FROM alpine:3.22 AS worker
# hadolint ignore=DL3018
RUN apk add --no-cache ca-certificates git openssh-client
COPY --from=build /out/usr/local/bin/airunner-cli /usr/local/bin/airunner-cli
VOLUME /var/lib/airunner
ENTRYPOINT ["airunner-cli", "worker"]


FROM scratch AS server
COPY --from=build /out/ /
COPY --from=build --chown=10001:10001 /data /data
ENV PATH=/usr/local/bin AIRUNNER_HOME=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8443 8444 8080
ENTRYPOINT ["airunner-server"]
