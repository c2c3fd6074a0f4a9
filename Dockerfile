# The example application behind gate:  docker build -t shop .
# An existing image needs three lines, which README.md has; deploy/ has the recipes for special ones.

ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim

# ---- build: what needs pip, a compiler or the network stays in this stage.
FROM ${PYTHON_IMAGE} AS build
WORKDIR /build

# An environment of its own: it moves to the next stage in one piece, and Debian's own Python forbids any other (PEP 668).
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# What changes rarely comes first: the libraries. pip compiles to bytecode what it installs, which nobody could later.
COPY constraints.txt examples/fastapi/requirements.txt ./
RUN pip install --constraint constraints.txt --requirement requirements.txt

# gate from this checkout; in an image of yours it is one more line of requirements.txt: schema-gate. The extra [http]
# is for GATE_PLACEHOLDER and `gate serve`.
COPY pyproject.toml README.md LICENSE ./
COPY gate gate
RUN pip install --constraint constraints.txt '.[http]'

# ---- the image that runs.
FROM ${PYTHON_IMAGE}

# Nothing is written at run time, so the root filesystem may be read-only; and no log line waits in a buffer.
# No setting of gate stands here: updaters that recreate a container keep the variables of the image that it came from.
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

# Official images ship the standard library without bytecode, which makes every start several times slower.
RUN python3 -m compileall -q -x '/(test|idlelib|lib2to3|site-packages|dist-packages)/' \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

COPY entrypoint.sh /usr/local/bin/
COPY --from=build /opt/venv /opt/venv

# What changes most often comes last: the application and its migrations.
WORKDIR /app
COPY examples/fastapi ./
RUN python3 -m compileall -q .

# A number, since Kubernetes cannot verify by a name that this user is not root.
USER 10001

# As that user, so that unreadable scripts are found, too: an image whose migrations are broken shall not be built.
RUN gate heads

EXPOSE 8000
ENTRYPOINT ["entrypoint.sh"]
CMD ["uvicorn", "shop.main:app", "--host", "0.0.0.0", "--port", "8000"]
