# The example application with gate as its entrypoint:  docker build -t shop .
# An existing image needs the three lines in README.md; docs/images.md and deploy/ have recipes for special images.

ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim

# ---- build: everything that needs pip, a compiler or the network stays in this stage.
FROM ${PYTHON_IMAGE} AS build
WORKDIR /build

# A virtual environment can be copied to the next stage as a whole, and Debian's Python requires one (PEP 668).
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# The libraries come first because they rarely change. pip compiles them to bytecode, which is impossible later.
COPY constraints.txt examples/fastapi/requirements.txt ./
RUN pip install --constraint constraints.txt --requirement requirements.txt

# gate from this checkout. In your own image, add schema-gate to requirements.txt instead. GATE_PLACEHOLDER and
# `gate serve` need the extra [http].
COPY pyproject.toml README.md LICENSE ./
COPY gate gate
RUN pip install --constraint constraints.txt '.[http]'

# ---- the image that runs.
FROM ${PYTHON_IMAGE}

# Nothing is written at run time, so the root filesystem may be read-only. Log lines are not buffered. No setting of
# gate is here, because updaters that recreate a container keep the variables of the old image.
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

# Official images ship the standard library without bytecode, which makes each start several times slower.
RUN python3 -m compileall -q -x '/(test|idlelib|lib2to3|site-packages|dist-packages)/' \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

COPY entrypoint.sh /usr/local/bin/
COPY --from=build /opt/venv /opt/venv

# The application and its migrations come last because they change most often.
WORKDIR /app
COPY examples/fastapi ./
RUN python3 -m compileall -q .

# A number, because Kubernetes cannot verify from a name that the user is not root.
USER 10001

# Fails the build on broken migration scripts; as that user, so that unreadable scripts are found, too.
RUN gate heads

EXPOSE 8000
ENTRYPOINT ["entrypoint.sh"]
CMD ["uvicorn", "shop.main:app", "--host", "0.0.0.0", "--port", "8000"]
