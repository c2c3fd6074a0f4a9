"""The cluster that `make cluster` starts: its images, its PostgreSQL, and one namespace for each test.

The namespaces enforce the restricted Pod Security Standard. Commands run in the network of the cluster.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from gate.database.lock import LOCK_CLASS, LockKey
from tests.support.containers import (
    CHANGED_DOCKERFILE,
    CONTRACTING_DOCKERFILE,
    POSTGRES_IMAGE,
    PREVIOUS_DOCKERFILE,
    ROOT,
    UTF8,
    Containers,
)
from tests.support.docs import PAGES
from tests.support.manifests import Resource, build_overlay, kustomize, resource_of_kind
from tests.support.programs import await_true

SCRIPT = ROOT / "tests" / "cluster" / "kubernetes" / "cluster.sh"
CLIENT = Path(__file__).with_name("cluster_client.py")
CLUSTER_TIMEOUT = 300.0
"""Seconds for what a cluster does: it starts pods one after the other, and repeats with pauses."""

REPOSITORY = "localhost/gate-cluster/shop"
"""The images have fixed names, so that a later run finds the copies of an earlier one."""

OLD, NEW = "2.0.0", "3.0.0"
"""Tags of the example without and with its last migration."""

SLOW, HELD, FAILING, CONTRACTING, LATE = "3.0.1", "3.0.2", "3.0.3", "4.0.0", "3.0.4"
"""Tags of images whose last migration takes ten seconds; sleeps until `go_on` exists; fails while `blocker` exists; may
wait until after the deployment; and of one whose server takes 15 seconds to start."""

LAST_MIGRATIONS = {
    SLOW: 'op.execute("SELECT pg_sleep(10)")',
    HELD: 'op.execute("SELECT pg_sleep(600 * (to_regclass($$go_on$$) IS NULL)::int)")',
    FAILING: 'op.execute("SELECT 1 % (to_regclass($$blocker$$) IS NULL)::int")',
}
LATE_DOCKERFILE = """\
FROM {image}
CMD ["sh", "-c", "trap 'exit 1' TERM; sleep 15 & wait; exec uvicorn shop.main:app --host 0.0.0.0 --port 8000"]
"""

DATABASE_HOST, PASSWORD = "10.97.0.50", "secret"
"""The address of a Service, because the cluster has no name server."""

POSTGRES: list[Resource] = [
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "postgres", "namespace": "database", "labels": {"app": "postgres"}},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "postgres",
                    "image": f"{POSTGRES_IMAGE}:latest",
                    "imagePullPolicy": "Never",
                    "env": [
                        {"name": "POSTGRES_PASSWORD", "value": PASSWORD},
                        {"name": "LC_ALL", "value": UTF8},
                    ],
                }
            ],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "postgres", "namespace": "database"},
        "spec": {"clusterIP": DATABASE_HOST, "selector": {"app": "postgres"}, "ports": [{"port": 5432}]},
    },
]

SLEEPING = "state = 'active' AND query LIKE '%pg_sleep(%' AND pid <> pg_backend_pid() AND datname = current_database()"


def inside(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in the network of the cluster."""
    return subprocess.run(
        [str(SCRIPT), "in", *command],
        capture_output=True, text=True, check=False, **{"timeout": CLUSTER_TIMEOUT + 60, "input": "", **options},
    )  # fmt: skip


@dataclass(frozen=True)
class Kubectl:
    """kubectl in one namespace."""

    namespace: str

    def __call__(self, *arguments: str, text: str = "") -> str:
        """Run it, assert that it succeeds, and return its standard output."""
        done = inside("kubectl", f"--namespace={self.namespace}", *arguments, input=text)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout.strip()

    def apply(self, *resources: Resource) -> str:
        return self("apply", "-f", "-", text="\n---\n".join(map(json.dumps, resources)))

    def get(self, *what: str) -> Resource:
        found: Resource = json.loads(self("get", *what, "--output=json"))
        return found

    def exists(self, *what: str) -> bool:
        return bool(self("get", *what, "--ignore-not-found", "--output=name"))

    def create_namespace(self, **labels: str) -> None:
        """Create the namespace, with the ServiceAccount without which the cluster refuses pods."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}})
        await_true(lambda: self.exists("serviceaccount/default"), lambda: f"no ServiceAccount in {self.namespace}")


@dataclass
class Cluster:
    """The running cluster, with the images and a PostgreSQL in it."""

    images: Containers = field(default_factory=lambda: Containers(f"gate-cluster/shop:{NEW}"))
    database: Kubectl = field(default_factory=lambda: Kubectl("database"))

    def prepare(self, folder: Path) -> None:
        """Build the images and copy them into the cluster; start PostgreSQL."""
        texts = {
            OLD: PREVIOUS_DOCKERFILE,
            CONTRACTING: CONTRACTING_DOCKERFILE,
            LATE: LATE_DOCKERFILE,
            **{
                tag: CHANGED_DOCKERFILE.format(image="{image}", statement=statement)
                for tag, statement in LAST_MIGRATIONS.items()
            },
        }
        self.images.build()
        for tag, text in texts.items():
            self.images.build_from(text.format(image=self.images.image), f"{REPOSITORY}:{tag}", folder / tag)
        copied = [f"{REPOSITORY}:{tag}" for tag in (NEW, *texts)]
        subprocess.run([str(SCRIPT), "load", f"{POSTGRES_IMAGE}:latest", *copied], check=True, timeout=900)
        self.database.create_namespace()
        self.database.apply(*POSTGRES)
        await_true(lambda: self.try_to_execute("postgres", "SELECT 1").returncode == 0, self._describe, timeout=180)

    def _describe(self) -> str:
        return self.database("describe", "pod", "postgres")

    def try_to_execute(self, database: str, statement: str) -> subprocess.CompletedProcess[str]:
        psql = ("psql", "-h", "/tmp", "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-tAc", statement, database)
        return inside("kubectl", "exec", "--namespace=database", "postgres", "--", *psql)

    def execute(self, database: str, statement: str) -> str:
        done = self.try_to_execute(database, statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@dataclass
class Shop:
    """The example in a namespace of its own, with a database of its own, deployed from a copy of k8s/."""

    cluster: Cluster
    folder: Path
    name: str = field(default_factory=lambda: f"shop-{secrets.token_hex(4)}")

    @cached_property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.name)

    @property
    def database(self) -> str:
        return self.name.replace("-", "_")

    @property
    def url(self) -> str:
        return f"postgresql://{self.database}:{PASSWORD}@{DATABASE_HOST}:5432/{self.database}"

    def create(self) -> None:
        """Create the namespace, a role with its database, and the Secret with its URL."""
        self.kubectl.create_namespace(**{"pod-security.kubernetes.io/enforce": "restricted"})
        self.cluster.execute("postgres", f"CREATE ROLE {self.database} LOGIN PASSWORD '{PASSWORD}'")
        self.cluster.execute("postgres", f"CREATE DATABASE {self.database} OWNER {self.database}")
        shutil.copytree(ROOT / "k8s", self.folder / "k8s")
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "kustomize").symlink_to(kustomize())
        config = yaml.safe_load(inside("sh", "-c", 'cat "$KUBECONFIG"').stdout)
        config["contexts"][0]["context"]["namespace"] = self.name
        (self.folder / "kubeconfig").write_text(json.dumps(config))  # JSON is YAML
        self.run_documented(
            "kubectl create secret generic shop-database "
            "--from-literal=url='postgresql://USER:PASSWORD@HOST:5432/NAME'",
            {"postgresql://USER:PASSWORD@HOST:5432/NAME": self.url},
        )

    def remove(self) -> None:
        inside("kubectl", "delete", "namespace", self.name, "--wait=false")

    # ---- as the documentation says

    def run_documented(self, command: str, values: dict[str, str], folder: str = "") -> str:
        """Run a command of the documentation in the shell of a user, with other values, and return its output."""
        assert command in PAGES["kubernetes"] + PAGES["zero-downtime"], f"not in the documentation: {command}"
        for placeholder, value in values.items():
            command = command.replace(placeholder, value)
        environment = (f"KUBECONFIG={self.folder}/kubeconfig", f"PATH={self.folder}/bin:{os.environ['PATH']}")
        done = inside("env", f"--chdir={self.folder / folder}", *environment, "sh", "-c", command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def deploy(self, overlay: str, tag: str, *patches: Resource) -> str:
        """Set the image of an overlay and apply it. `patches`: JSON6902 patches for resources of a kind."""
        self._patch(overlay, patches)
        return self.run_documented(
            "cd k8s/overlays/job && kustomize edit set image shop=YOUR-REGISTRY/shop:TAG && kubectl apply -k .",
            {"overlays/job": f"overlays/{overlay}", "YOUR-REGISTRY/shop:TAG": f"{REPOSITORY}:{tag}"},
        )

    def _patch(self, overlay: str, patches: tuple[Resource, ...]) -> None:
        path = self.folder / "k8s" / "overlays" / overlay / "kustomization.yaml"
        kustomization = yaml.safe_load((ROOT / "k8s" / "overlays" / overlay / "kustomization.yaml").read_text())
        added = [{"target": {"kind": patch["kind"]}, "patch": json.dumps(patch["patch"])} for patch in patches]
        kustomization["patches"] = [*kustomization.get("patches", []), *added]
        path.write_text(json.dumps(kustomization))  # JSON is YAML

    def migrate(self, tag: str) -> None:
        """Migrate as a pipeline does: with the Job alone, to its end."""
        self._patch("job", ())
        folder = self.folder / "k8s" / "overlays" / "job"
        image = f"shop={REPOSITORY}:{tag}"
        subprocess.run([kustomize(), "edit", "set", "image", image], cwd=folder, check=True, timeout=60)
        build_overlay.cache_clear()
        self.kubectl.apply(resource_of_kind(build_overlay(folder), "Job"))
        self.await_job(f"shop-migrate-{tag}", "Complete")

    # ---- what happens

    def await_true(self, condition: Callable[[], bool]) -> None:
        await_true(condition, self.describe, timeout=CLUSTER_TIMEOUT)

    def describe(self) -> str:
        """Describe everything, for the message of a test that fails."""
        pods = [pod["metadata"]["name"] for pod in self.pods()]
        logs = [inside("kubectl", "logs", "-n", self.name, pod, "--all-containers", "--prefix").stdout for pod in pods]
        return "\n".join([self.kubectl("get", "all,events"), self.kubectl("describe", "pods"), *logs])

    def await_rollout(self) -> None:
        done = inside(
            "kubectl", "-n", self.name, "rollout", "status", "deployment/shop", f"--timeout={CLUSTER_TIMEOUT:.0f}s"
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.describe()}"

    def await_job(self, name: str, condition: str) -> Resource:
        """Wait until a Job has ended, assert its condition (`Complete` or `Failed`), and return that."""
        ends: list[Resource] = []

        def ended() -> bool:
            conditions = self.job(name).get("conditions", [])
            ends[:] = [each for each in conditions if each["type"] in {"Complete", "Failed"}]
            return bool(ends)

        self.await_true(ended)
        assert ends[0]["type"] == condition, self.describe()
        return ends[0]

    def job(self, name: str) -> Resource:
        """Return the status of a Job."""
        status: Resource = self.kubectl.get("job", name)["status"]
        return status

    def pods(self, app: str = "") -> list[Resource]:
        """Return the pods of the server (`shop`) or of a Job (`shop-migrate`), oldest first."""
        found: list[Resource] = self.kubectl.get("pods", *([f"--selector=app={app}"] if app else []))["items"]
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def new_pods(self, tag: str) -> list[Resource]:
        """Return the server's pods of an image, those that end excepted."""
        pods = [pod for pod in self.pods("shop") if "deletionTimestamp" not in pod["metadata"]]
        return [pod for pod in pods if pod["spec"]["containers"][0]["image"].endswith(f":{tag}")]

    def events(self, pod: str, container: str) -> list[dict[str, Any]]:
        """Return what gate has logged in a container, [] if there is no log yet."""
        done = inside("kubectl", "logs", "-n", self.name, pod, f"--container={container}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def await_event(self, pod: str, container: str, name: str, **fields: object) -> None:
        def logged() -> bool:
            events = self.events(pod, container)
            return any(event["event"] == name and fields.items() <= event.items() for event in events)

        self.await_true(logged)

    def exit_codes(self, app: str = "shop-migrate") -> list[int]:
        """Return the exit codes of the pods of a Job that have ended, oldest first."""
        states = [status["state"] for pod in self.pods(app) for status in pod["status"].get("containerStatuses", [])]
        return [state["terminated"]["exitCode"] for state in states if "terminated" in state]

    def get(self, path: str) -> str:
        """Request a path of the server through the API server."""
        return self.kubectl("get", "--raw", f"/api/v1/namespaces/{self.name}/services/shop:http/proxy{path}")

    def serves(self, verdict: str = "CURRENT") -> None:
        assert len(json.loads(self.get("/items"))) == 2
        assert json.loads(self.get("/health/ready"))["verdict"] == verdict

    # ---- the database

    def execute(self, statement: str) -> str:
        return self.cluster.execute(self.database, statement)

    @property
    def sleeping(self) -> bool:
        """Whether a migration sleeps in the server."""
        return self.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {SLEEPING}") != "0"

    def terminate_migration(self) -> None:
        assert self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {SLEEPING}") == "t"

    @contextmanager
    def held_lock(self) -> Iterator[None]:
        """Hold the migration lock, as another migrator does."""
        key = LockKey.of(None, "alembic_version").signed
        psql = ("psql", "-h", "/tmp", "-U", "postgres", "-tA", self.database)
        command = [str(SCRIPT), "in", "kubectl", "exec", "-i", "--namespace=database", "postgres", "--", *psql]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
            assert session.stdin
            assert session.stdout
            session.stdin.write(f"BEGIN; SELECT 'held' FROM pg_advisory_xact_lock({LOCK_CLASS}, {key});\n")
            session.stdin.flush()
            while (line := session.stdout.readline().strip()) != "held":
                assert line == "BEGIN"
            yield
            session.stdin.close()

    # ---- a client

    @contextmanager
    def client(self, path: str) -> Iterator[Client]:
        """Request a path through the Service all the time, with four connections at once."""
        address = self.kubectl.get("service", "shop")["spec"]["clusterIP"]
        command = [str(SCRIPT), "in", sys.executable, str(CLIENT), address, path]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            process.stdout.readline()
            client = Client()
            yield client
            out, _ = process.communicate("", timeout=120)
            client.read(out)


@dataclass
class Client:
    """The result of a client, once it has ended."""

    answers: Counter[str] = field(default_factory=Counter)
    """Body -> how often it was received."""
    failures: list[str] = field(default_factory=list)
    """When a request was not answered with 200, and why."""

    def read(self, out: str) -> None:
        found = json.loads(out)
        self.answers.update(found["answers"])
        self.failures += found["failures"]

    def received(self, pattern: str) -> int:
        return sum(number for body, number in self.answers.items() if re.search(pattern, body))
