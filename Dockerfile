# The example application behind gate:  docker build -t shop .
# README.md shows the three lines for an existing image; deploy/ has Dockerfiles for special cases.

ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim

# ---- build: pip and compilers stay in this stage.
FROM ${PYTHON_IMAGE} AS build
WORKDIR /build

# A virtual environment can be copied to the next stage as a whole, and Debian's Python requires one (PEP 668).
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# The libraries come first, because they change rarely. pip also compiles them to bytecode; at run time /opt/venv is
# read-only.
COPY constraints.txt examples/fastapi/requirements.txt ./
RUN pip install --constraint constraints.txt --requirement requirements.txt

# gate from this checkout; your image needs only the line `schema-gate[http]` in requirements.txt. GATE_PLACEHOLDER and
# `gate serve` need the extra [http].
COPY pyproject.toml README.md LICENSE ./
COPY gate gate
RUN pip install --constraint constraints.txt '.[http]'

# ---- the final image.
FROM ${PYTHON_IMAGE}

# No bytecode is written at run time, so the root filesystem may be read-only; output is not buffered.
# Do not set gate's variables here: an updater that recreates a container keeps the variables of its old image.
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

# The official images contain the standard library without bytecode, which makes each start several times slower.
RUN python3 -m compileall -q -x '/(test|idlelib|lib2to3|site-packages|dist-packages)/' \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

COPY entrypoint.sh /usr/local/bin/
COPY --from=build /opt/venv /opt/venv

# The application and its migrations come last, because they change most often.
WORKDIR /app
COPY examples/fastapi ./
RUN python3 -m compileall -q .

# Records which tables and columns the models use: /app/gate-expected.json. It needs no database.
RUN gate expect

# A numeric user id: Kubernetes cannot verify runAsNonRoot with a name.
USER 10001

# Fails the build if the migration scripts are broken, or if this user cannot read them.
RUN gate heads

EXPOSE 8000
ENTRYPOINT ["entrypoint.sh"]
CMD ["uvicorn", "shop.main:app", "--host", "0.0.0.0", "--port", "8000"]
