"""The servers that are compared: how each is started and what it offers."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import envs, loads

PROGRAMS = Path(__file__).resolve().parent / "peers"
PORTS = 8  # consecutive ports that a peer may use


@dataclass(frozen=True)
class Peer:
    """One server, or one way of starting it; `program` and its pins are in benchmarks/peers/."""

    name: str
    label: str
    program: str
    path: str
    package: str  # whose version the report names
    missing: Mapping[str, str] = field(default_factory=dict)  # kind of request to the reason that it is not offered
    protocol_v2: bool = False
    batches: bool = True
    prepares: bool = False  # the program has a step `prepare`, which does not count as start-up time
    routes: Mapping[str, str] = field(default_factory=dict)  # kind of request to its path, if it is not `path`
    own_environment: bool = True
    pins: str = ""  # the name of its pins and its environment; by default its program's
    distribution_python: bool = False
    torchserve: bool = False  # workers can be added over its management port, the second one
    environment: Mapping[str, str] = field(default_factory=dict)
    adapts_s: int = 0  # seconds of load before each measurement, for a server that learns from its traffic
    pausable: bool = True  # it still works after a pause of minutes; otherwise it stays running, idle
    only: tuple[str, ...] = ()  # names of the loads to run; all of them by default

    def python(self) -> Path:
        """The interpreter of its environment, which is created on first use.

        Raises:
            envs.Unavailable: it cannot be created on this machine.
        """
        if not self.own_environment:
            return Path(sys.executable)
        name = self.pins or self.program.removesuffix(".py").removesuffix("_peer")
        return envs.ensure(name, PROGRAMS / f"{name}.txt", distribution_python=self.distribution_python)

    def wanted(self) -> tuple[loads.Load, ...]:
        return tuple(load for load in loads.LOADS if not self.only or load.name in self.only)

    def offered(self) -> tuple[loads.Load, ...]:
        return tuple(load for load in self.wanted() if self.reason_missing(load.kind) is None)

    def reason_missing(self, kind: str) -> str | None:
        """Why it does not accept this kind of request, or None if it does."""
        parts = ("mixed", *(part for part, _ in loads.MIXED)) if kind == "mixed" else (kind,)
        return next((self.missing[part] for part in parts if part in self.missing), None)

    def route(self, kind: str) -> str:
        return self.routes.get(kind, self.path)

    def body(self, kind: str, rows: int) -> loads.Body:
        return (loads.protocol_v2_body if self.protocol_v2 else loads.plain_body)(kind, rows)

    def bodies(self, load: loads.Load) -> list[loads.Body]:
        parts = loads.MIXED if load.kind == "mixed" else ((load.kind, load.rows),)
        return [self.body(kind, rows) for kind, rows in parts]

    def process_environment(self, port: int, folder: Path) -> dict[str, str]:
        """The variables that its program reads: port, weights and its own folder, also for temporary files."""
        return {
            **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
            "BENCH_PORT": str(port),
            "BENCH_FOLDER": str(folder),
            "BENCH_CHECKPOINT": str(folder.parent / "simplenet.pt"),
            "BENCH_WEIGHTS": str(folder.parent / "weights.pt"),
            "TMPDIR": str(folder),
            "XDG_STATE_HOME": str(folder),
            **self.environment,
        }


TORCHSERVE_PATH = "/predictions/simplenet"
NO_RAW = "takes no raw bytes beside JSON"
NO_IMAGES = "no image input beside JSON"

OURS = Peer(
    "ours", "SimpleNet Serve", "ours.py", TORCHSERVE_PATH, "simplenet-serve",
    prepares=True, own_environment=False, torchserve=True,
)  # fmt: skip
OURS_LATENCY = Peer(
    "ours-latency", "SimpleNet Serve, profile latency", "ours.py", TORCHSERVE_PATH, "simplenet-serve",
    prepares=True, own_environment=False, environment={"BENCH_PROFILE": "latency"},
    only=("json, 1 row, 1 conn", "json, 1 row, 8 conn", "raw, 1 row, 1 conn", "raw, 1 row, 8 conn"),
)  # fmt: skip

# The effect of a part of SimpleNet Serve: the same server without it. Only measured when named.
WITHOUT_LOADS = tuple(load.name for load in loads.LOADS if load.connections in (1, 64) or load.rows == 4096)
WITHOUT = tuple(
    Peer(
        f"ours-{switch}-stock", f"SimpleNet Serve, stock {switch}", "ours.py", TORCHSERVE_PATH, "simplenet-serve",
        prepares=True, own_environment=False, environment={f"SIMPLENET_{switch.upper()}": "stock"}, only=WITHOUT_LOADS,
    )
    for switch in ("frontend", "wire")
)  # fmt: skip

OTHERS = (
    Peer(
        "stock_torchserve", "TorchServe, stock", "stock_torchserve.py", TORCHSERVE_PATH, "torchserve",
        prepares=True, torchserve=True,
    ),
    Peer(
        "mosec", "mosec", "mosec_peer.py", "/json", "mosec",
        routes={"raw": "/raw", "png": "/png"}, missing={"mixed": "a worker of its own for each kind"},
    ),
    Peer("fastapi", "FastAPI, uvicorn", "fastapi_peer.py", "/predict", "fastapi", batches=False),
    Peer(
        "fastapi_granian", "FastAPI, granian", "fastapi_granian_peer.py", "/predict", "fastapi",
        batches=False, pins="fastapi",
    ),
    Peer(
        "triton", "Triton (PyTriton)", "triton_peer.py", "/v2/models/simplenet/infer", "nvidia-pytriton",
        protocol_v2=True, distribution_python=True, missing={"png": "tensors only"},
        pausable=False,  # its Python backend crashes after a pause; idle it takes 0.4 % of a core
    ),
    Peer(
        "mlserver", "MLServer", "mlserver_peer.py", "/v2/models/simplenet/infer", "mlserver",
        protocol_v2=True, missing={"raw": "raw tensors over gRPC only", "png": "tensors only"},
    ),
    Peer(
        "ray_serve", "Ray Serve", "ray_serve_peer.py", "/predict", "ray",
        environment={"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    ),
    Peer(
        "litserve", "LitServe", "litserve_peer.py", "/predict", "litserve",
        missing={"raw": NO_RAW, "png": NO_IMAGES},
    ),
    Peer(
        "bentoml", "BentoML", "bentoml_peer.py", "/predict", "bentoml", adapts_s=6,
        missing={"raw": NO_RAW, "png": NO_IMAGES},
    ),
)  # fmt: skip


def chosen(names: str) -> tuple[Peer, ...]:
    """The other servers of a comma-separated list, in which `all` stands for all peers; none for an empty one.

    Raises:
        SystemExit: a name is unknown.
    """
    by_name = {peer.name: peer for peer in (*OTHERS, *WITHOUT)}
    parts = [part.strip() for part in names.split(",") if part.strip()]
    wanted = [name for part in parts for name in ([peer.name for peer in OTHERS] if part == "all" else [part])]
    if unknown := [name for name in wanted if name not in by_name]:
        raise SystemExit(f"bench: --peers: expected {', '.join(by_name)}, found {', '.join(unknown)}")
    return tuple(by_name[name] for name in wanted)
