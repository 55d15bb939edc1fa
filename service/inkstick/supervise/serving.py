"""How vLLM is started: its arguments and its closed environment. Pure functions.

vLLM is treated as unsafe: a unix socket, one client, nothing from outside the given folders. So: no remote code,
safetensors only, no address it could fetch from, no request logging (documents would be in it), no telemetry, no hub;
and an environment of which nothing but a short list is passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inkstick.errors import UsageError
from inkstick.models.manifest import Manifest
from inkstick.supervise.ladder import Rung
from inkstick.supervise.machine import Card

MODULE = "vllm.entrypoints.openai.api_server"
CPU_IN_FLIGHT = 4
CPU_CONTEXT = 8192
CPU_CACHE_GIB = 1
NOWHERE = "nowhere.invalid"
ONE_IMAGE = ("--limit-mm-per-prompt", '{"image":1,"video":0}')
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")

WALLS = (
    "--dev-bind", "/", "/", "--unshare-net", "--unshare-pid", "--proc", "/proc", "--die-with-parent",
    "--perms", "1777", "--tmpfs", "/dev/shm",  # noqa: S108
)  # fmt: skip
"""bubblewrap's: the whole system as it is, the GPU's devices too, but no network, its own processes, and shared memory
that goes when it goes: vLLM hands page images on through it, and one that is killed leaves it behind."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to start the engine: vLLM's arguments (without Python and the module), and the pages in flight."""

    arguments: tuple[str, ...]
    in_flight: int
    eager: bool


def plan(
    manifest: Manifest,
    weights: Path,
    socket: Path,
    card: Card | None,
    rung: Rung,
    *,
    cap: int | None = None,
    context: int | None = None,
    template: Path | None = None,
) -> Plan:
    """`card` None: on the CPU. `cap`: what the canary allowed. `context`: the model's own limit of tokens, where it is
    known. `template`: its chat template. Raises UsageError for a model that is not served, or a card that will not do.
    """
    serve = manifest.serve
    if serve is None:
        raise UsageError(f"{manifest.title} is not a model that a server offers.", hint="See docs/engines.md.")
    own = _for_cpu() if card is None else _for_card(manifest, card)
    in_flight = max(1, own[0] // rung.divide)
    in_flight = min(in_flight, cap) if cap else in_flight
    options = _merged(ONE_IMAGE, serve.arguments, own[1])
    options["--max-num-seqs"] = str(in_flight)
    if (memory := options.get("--gpu-memory-utilization")) is not None:
        options["--gpu-memory-utilization"] = f"{float(memory) - rung.memory:.2f}"
    _bound(options, "--max-model-len", context)
    eager = rung.eager or card is None
    return Plan(
        arguments=(
            *_fixed(weights, serve.served, socket),
            *_flat(options),
            *(("--chat-template", str(template)) if template else ()),
            *(("--enforce-eager",) if eager else ()),
        ),
        in_flight=in_flight,
        eager=eager,
    )


def _for_card(manifest: Manifest, card: Card) -> tuple[int, tuple[str, ...]]:
    """(pages in flight, arguments) of the card's memory class. Raises UsageError if it will not do."""
    assert manifest.serve is not None
    lacks = manifest.hardware.lacks(card.driver, card.capability, card.gib) if manifest.hardware else None
    memory = manifest.serve.for_memory(card.gib)
    if lacks or memory is None:
        raise UsageError(
            f"{manifest.title} cannot run on {card.name}. {lacks or 'No memory class of its manifest fits.'}",
            hint="The CPU engine reads instead; docs/engines.md says what a card needs.",
            code="card",
        )
    return memory.in_flight, memory.arguments


def _for_cpu() -> tuple[int, tuple[str, ...]]:
    context = str(CPU_CONTEXT)
    arguments = ("--dtype", "float32", "--max-model-len", context, "--max-num-batched-tokens", context)
    return CPU_IN_FLIGHT, arguments


def _bound(options: dict[str, str | None], name: str, most: int | None) -> None:
    """Lower a number that is above what the model takes."""
    if most is not None and (given := options.get(name)) is not None and int(given) > most:
        options[name] = str(most)


def _merged(*groups: tuple[str, ...]) -> dict[str, str | None]:
    """Options by name, later groups over earlier ones; None: a switch without a value."""
    options: dict[str, str | None] = {}
    for group in groups:
        name = None
        for word in group:
            if word.startswith("--"):
                name, options[word] = word, None
            elif name is not None:
                options[name] = word
    return options


def _flat(options: Mapping[str, str | None]) -> tuple[str, ...]:
    return tuple(word for name, value in options.items() for word in ((name,) if value is None else (name, value)))


def _fixed(weights: Path, served: str, socket: Path) -> tuple[str, ...]:
    return (
        "--model", str(weights),
        "--served-model-name", served,
        "--uds", str(socket),
        "--load-format", "safetensors",
        "--allowed-media-domains", NOWHERE,
        "--disable-uvicorn-access-log",
        "--no-enable-log-requests",
    )  # fmt: skip


def environment(
    outside: Mapping[str, str], cache: Path, *, cpu: bool = False, card: Card | None = None
) -> dict[str, str]:
    """Everything that the engine sees of the environment. All caches lie in `cache`; HOME is there too. `card`: the one
    that it is to see, where nobody chose one outside; CUDA's own first is the fastest, not always the largest."""
    passed = {name: outside[name] for name in PASSED_ON if name in outside}
    closed = {
        "HOME": str(cache),
        "HF_HOME": str(cache / "hf"),
        "HF_MODULES_CACHE": str(cache / "modules"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "VLLM_CONFIG_ROOT": str(cache / "config"),
        "VLLM_ASSETS_CACHE": str(cache / "assets"),
        "XDG_CACHE_HOME": str(cache),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "CUDA_CACHE_PATH": str(cache / "cuda"),
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        "VLLM_SERVER_DEV_MODE": "0",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_MAX_N_SEQUENCES": "1",
        "VLLM_MM_HASHER_ALGORITHM": "sha256",
        "VLLM_USE_V2_MODEL_RUNNER": "0",  # 0.27.1 would take the newer one, on a GPU alone: never seen by our tests
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    on_cpu = {"VLLM_CPU_KVCACHE_SPACE": str(CPU_CACHE_GIB), "VLLM_CPU_OMP_THREADS_BIND": "nobind"} if cpu else {}
    chosen = {}
    if card is not None and "CUDA_VISIBLE_DEVICES" not in passed:
        chosen = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(card.number)}
    return passed | closed | on_cpu | chosen


def command(python: Path, arguments: tuple[str, ...], bwrap: str | None) -> list[str]:
    """The whole command line. With bubblewrap the engine has no network (a loopback of its own and nothing else), and
    none of its processes outlives the first."""
    walls = [bwrap, *WALLS] if bwrap else []
    return [*walls, str(python), "-m", MODULE, *arguments]


def script(python: Path, path: Path, arguments: tuple[str, ...], bwrap: str | None) -> list[str]:
    """The command line of a program file of ours in the engine's Python, walled in like the server. -P: nothing beside
    the file can be imported; -s: nothing of the user's either."""
    walls = [bwrap, *WALLS] if bwrap else []
    return [*walls, str(python), "-P", "-s", str(path), *arguments]
