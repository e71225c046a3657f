#!/usr/bin/env bash
# Builds an image of the service that contains the kernel image, for Docker-in-Docker without a registry:
#
#   ./build-preloaded.sh TAG
#   docker run --rm -it --privileged -p 8000:8000 TAG
#
# Environment: IMAGE (the service's image, default code-interpreter:latest), PYTHON_EXECUTOR_DOCKER_IMAGE (the kernel image,
# default code-interpreter-kernel:latest). A default image that is missing is built first.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/lib.sh
. scripts/images.sh

[ $# -eq 1 ] || fail "usage: ./build-preloaded.sh TAG"
SERVICE=${IMAGE:-code-interpreter:latest}
KERNEL=${PYTHON_EXECUTOR_DOCKER_IMAGE:-code-interpreter-kernel:latest}
case ${KERNEL##*/} in *:*) ;; *) KERNEL=$KERNEL:latest ;; esac
CACHE=.cache/service-image
CONTEXT=$CACHE/preloaded

if [ -z "${PYTHON_EXECUTOR_DOCKER_IMAGE:-}" ] && ! has_image "$KERNEL"; then kernel_image/build; fi
if [ -z "${IMAGE:-}" ] && ! has_image "$SERVICE"; then deploy/build; fi
for image in "$KERNEL" "$SERVICE"; do
  has_image "$image" || fail "the image $image is missing; build or pull it first."
done

parts=$(docker image inspect --format '{{.Id}}' "$SERVICE" "$KERNEL" | cut -c8-39 | paste -sd+)
if [ "$(label "$1" code-interpreter.parts)" = "$parts" ]; then exit; fi

rm -rf "$CONTEXT"
mkdir -p "$CONTEXT"
trap 'rm -rf "$CONTEXT"' EXIT
docker image inspect --format "{\"name\": \"$KERNEL\", \"id\": {{json .Id}}, \"config\": {{json .Config}}}" "$KERNEL" \
  >"$CONTEXT/image.json"
step "Build $1" build_as "$1" --file deploy/preloaded.Dockerfile --build-arg "KERNEL_IMAGE=$KERNEL" \
  --build-arg "SERVICE_IMAGE=$SERVICE" --label "code-interpreter.parts=$parts" "$CONTEXT"
