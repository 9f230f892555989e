# skiff's own image, built by skiff: skiff build -t skiff --build-arg VERSION=v0.1.0 .
#
# git, uidmap and the like are not in it, and skiff does without: it says so where a build needs one.
# skiff: ignore=program

# The compiler runs on the machine's own platform, and compiles for the image's.
FROM --platform=$BUILDPLATFORM golang:1.26-alpine AS build

WORKDIR /src
# The modules come first: they are fetched again only where these files change.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags "-s -w -X main.released=$VERSION" -o /out/ ./cmd/skiff

FROM scratch
# Registries are reached over HTTPS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# Temporary files, and the state, which a volume keeps from run to run.
COPY --from=build --chmod=1777 /tmp /tmp
COPY <<"EOF" /etc/passwd
root:x:0:0:root:/root:/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin
EOF
COPY --from=build --chown=65532:65532 --chmod=700 /tmp /home/nonroot
ENV HOME=/home/nonroot
# The times that it shows are UTC's unless TZ names a zone of this file.
COPY --from=build /usr/local/go/lib/time/zoneinfo.zip /usr/share/zoneinfo.zip
ENV ZONEINFO=/usr/share/zoneinfo.zip
COPY --from=build /out/skiff /skiff
USER 65532:65532
WORKDIR /home/nonroot
ENTRYPOINT ["/skiff"]
