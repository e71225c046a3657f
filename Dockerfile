# The service's image. Where builds reach the network: docker build -t code-interpreter .
# Elsewhere `make service-image` puts what is installed here into deploy/packages/ first, and no network is used.
#
#   --build-arg SKIP_NESTED_DOCKER=1              without an engine of its own: for docker.sock or DOCKER_HOST
#   --build-arg PYTHON_EXECUTOR_DOCKER_IMAGE=...  which image kernels run in, where the variable is unset
#   --build-arg BASE_IMAGE=...                    any Debian or Ubuntu with Python 3.11
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS packages
LABEL code-interpreter.stage=build
COPY deploy/packages/ /packages/
COPY requirements.lock /requirements.lock
# A bootstrapped base has no pip, which then runs from its own wheel.
RUN python3.11 -m venv --without-pip /opt/venv \
 && if ls /packages/pip-*.whl >/dev/null 2>&1; \
    then pip="/opt/venv/bin/python $(echo /packages/pip-*.whl)/pip"; from="--no-index --find-links /packages"; \
    else pip="python3.11 -m pip --python /opt/venv/bin/python"; from=; fi \
 && $pip --disable-pip-version-check install $from --no-cache-dir --no-deps --require-hashes --no-compile --quiet \
      --root-user-action ignore --requirement /requirements.lock \
 && find /opt/venv -depth -type d '(' -name tests -o -name test ')' -exec rm -r {} + \
 && rm -r /opt/venv/lib/python3.11/site-packages/setuptools* \
 && /opt/venv/bin/python -m compileall -q -j 0 /opt/venv/lib/python3.11/site-packages

# The engine for Docker-in-Docker, without what only people use. Packages are unpacked rather than installed: nothing
# of the tools that install them stays, and nothing is started.
FROM ${BASE_IMAGE} AS nested
LABEL code-interpreter.stage=build
ARG SKIP_NESTED_DOCKER=0
COPY deploy/packages/ /packages/
COPY deploy/unpack-engine /unpack-engine
RUN mkdir /nested && if [ "$SKIP_NESTED_DOCKER" != 1 ]; then sh /unpack-engine /packages /nested; fi

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="code-interpreter" org.opencontainers.image.licenses="MIT"

# Who the service is once it has given up root. Files may be stored by group 0 as well: `docker run --user 1000`.
RUN echo 'interpreter:x:10001:' >> /etc/group \
 && echo 'interpreter:x:10001:10001:code interpreter:/var/lib/code-interpreter:/bin/sh' >> /etc/passwd \
 && install -d -o 10001 -g 0 -m 0770 /var/lib/code-interpreter /var/lib/code-interpreter-key
COPY --from=nested /nested/ /
COPY --from=packages /opt/venv /opt/venv

ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FILE_STORAGE_DIR=/var/lib/code-interpreter \
    REGISTRY_KEY_FILE=/var/lib/code-interpreter-key/registry.key

# Our own code comes last, so that a change to it rebuilds in seconds.
COPY alembic.ini /opt/code-interpreter/
COPY alembic/ /opt/code-interpreter/alembic/
COPY kernel_image/ /opt/code-interpreter/kernel_image/
COPY sessions/ /opt/code-interpreter/sessions/
COPY service/ /opt/code-interpreter/service/
COPY deploy/*.py /opt/code-interpreter/deploy/
RUN echo /opt/code-interpreter > /opt/venv/lib/python3.11/site-packages/code-interpreter.pth \
 && printf '#!/opt/venv/bin/python\nfrom service.__main__ import main\n\nmain()\n' \
      > /opt/venv/bin/code-interpreter-api \
 && chmod 755 /opt/venv/bin/code-interpreter-api \
 && chmod -R u=rwX,go=rX /opt/code-interpreter \
 && python -m compileall -q /opt/code-interpreter

ARG PYTHON_EXECUTOR_DOCKER_IMAGE=code-interpreter-kernel:latest
ENV PYTHON_EXECUTOR_DOCKER_IMAGE=${PYTHON_EXECUTOR_DOCKER_IMAGE}
ARG VERSION=unknown
ARG DIGEST=unknown
LABEL org.opencontainers.image.version=${VERSION} code-interpreter.digest=${DIGEST}

# Overlays can't lie on the container's own: an engine in here needs a volume.
VOLUME ["/var/lib/code-interpreter", "/var/lib/code-interpreter-key", "/var/lib/docker"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["python", "-I", "-m", "deploy.healthcheck"]
ENTRYPOINT ["python", "-I", "-m", "deploy"]
CMD ["code-interpreter-api"]
