# Images of peersignal (default target) and peerd: one static binary each, nothing else, as a user without rights.
#
#   docker build -t peersignal .
#   docker build -t peerd --target peerd .
#   docker buildx build --platform linux/amd64,linux/arm64 -t peersignal .
#
# The root file system can be read-only. docs/deploy.md shows how to run them.

ARG GO_IMAGE=golang:1.26

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
ARG GOPROXY
COPY go.mod go.sum ./
# The module cache is a mount where the builder has one, so that a changed line does not download everything again.
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS=linux
ARG TARGETARCH
ARG VERSION=container
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/go/build \
    GOCACHE=/go/build CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -buildvcs=false -trimpath \
      -ldflags "-s -w -X github.com/peersignal/peersignal/internal/buildinfo.Version=$VERSION" -o /out/ ./cmd/...
# A home that the user of the image owns: volumes made from it inherit that, and peerd makes its folder (0700) in it.
RUN mkdir -p /out/data

FROM scratch AS peerd
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/peerd /usr/bin/peerd
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
ENV HOME=/data PEERD_DATA=/data/peerd
VOLUME /data
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/usr/bin/peerd", "status", "--json"]
ENTRYPOINT ["/usr/bin/peerd"]
CMD ["up"]

FROM scratch AS peersignal
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/peersignal /usr/bin/peersignal
USER 65532:65532
# HTTP and WebSocket; STUN and TURN. Relay ports are those of --turn-ports.
EXPOSE 8080 3478/udp 3478/tcp
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/usr/bin/peersignal", "health"]
ENTRYPOINT ["/usr/bin/peersignal"]
