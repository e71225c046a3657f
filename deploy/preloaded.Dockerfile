# The service's image with the kernel image inside: see build-preloaded.sh and deploy/embedded.py.
ARG KERNEL_IMAGE
ARG SERVICE_IMAGE
FROM ${KERNEL_IMAGE} AS kernel

FROM ${SERVICE_IMAGE}
ARG KERNEL_IMAGE
COPY --from=kernel / /opt/kernel-image/root/
COPY image.json /opt/kernel-image/
ENV PYTHON_EXECUTOR_DOCKER_IMAGE=${KERNEL_IMAGE}
