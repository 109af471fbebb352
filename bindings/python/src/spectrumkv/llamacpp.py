# SPDX-License-Identifier: Apache-2.0
"""llama.cpp through its own C API (llama-cpp-python's ctypes module): evaluate, export and import a sequence's state,
capture the queries that scoring wants, and keep sessions in files."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, Self

import llama_cpp.llama_cpp as api
import numpy as np
from numpy.typing import NDArray

from .llama_session import decode_session, encode_session, load_session, save_session
from .models import fingerprint_of
from .state_blob import parse

__all__ = ["LlamaContext", "Rewrite", "decode_session", "encode_session", "load_session", "save_session"]

Rewrite = Callable[[Literal["K", "V"], int, int, NDArray[np.float32]], NDArray[np.float32]]
"""Called with (which, layer, position of the first row, rows ``[tokens, width]``); returns what replaces the rows."""

_KV_TYPES = {"f32": 0, "f16": 1, "bf16": 30}  # enum ggml_type
_U8P = ctypes.POINTER(ctypes.c_uint8)


@api.llama_log_callback  # type: ignore[untyped-decorator,unused-ignore]
def _quiet(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """llama.cpp prints pages of text while loading."""


def _load_ggml() -> ctypes.CDLL:
    folder = Path(api.__file__).parent / "lib"
    names = sorted(folder.glob("*ggml-base.so*"))
    if not names:
        raise RuntimeError(f"no libggml-base in llama-cpp-python's {folder.name} folder")
    library = ctypes.CDLL(str(names[0]))
    library.ggml_get_name.restype = ctypes.c_char_p
    library.ggml_get_name.argtypes = [ctypes.c_void_p]
    library.ggml_op_desc.restype = ctypes.c_char_p
    library.ggml_op_desc.argtypes = [ctypes.c_void_p]
    library.ggml_nbytes.restype = ctypes.c_size_t
    library.ggml_nbytes.argtypes = [ctypes.c_void_p]
    library.ggml_backend_tensor_get.restype = None
    library.ggml_backend_tensor_get.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    library.ggml_backend_tensor_set.restype = None
    library.ggml_backend_tensor_set.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    return library


@contextmanager
def _interrupt_afterwards() -> Iterator[None]:
    """Ctrl-C waits for the end of the block. Inside a ctypes callback Python would print and forget it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual):  # ignored, default, or not Python's
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if came:
            usual(*came[0])


class LlamaContext:
    """A GGUF model and one context with one sequence (id 0). A context manager; one thread at a time.

    ``flash_attention`` on stores V token-major (``v_trans`` 0 in exported states), off transposed (``v_trans`` 1).
    ``swa_full`` keeps every token in sliding-window layers too; off, only about a window of them (as llama-server does).
    Batches always have ``n_batch`` tokens (the last one fewer): two contexts that evaluate the same tokens from the
    same state give bit-equal logits.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        n_ctx: int = 2304,
        n_batch: int = 256,
        threads: int | None = None,
        kv_dtype: Literal["f16", "bf16", "f32"] = "f16",
        flash_attention: bool = True,
        swa_full: bool = False,
    ) -> None:
        self._model: Any = None
        self._context: Any = None
        self.path = Path(path)
        self.n_batch = n_batch
        self.v_trans = 0 if flash_attention else 1
        self.kv_type = _KV_TYPES[kv_dtype]
        self._queries: dict[int, list[NDArray[np.float32]]] = {}
        self._keys: dict[int, list[NDArray[np.float32]]] = {}
        self._wanted_queries = 0
        self._capturing = False
        self._capturing_keys = False
        self._state_layers: list[int] | None = None
        self._rewrite: Rewrite | None = None
        self._rewrite_error: Exception | None = None
        self._batch_position = 0
        self._ggml = _load_ggml()
        api.llama_backend_init()
        api.llama_log_set(_quiet, ctypes.c_void_p(0))
        self._model = api.llama_model_load_from_file(str(path).encode(), api.llama_model_default_params())
        if not self._model:
            raise RuntimeError(f"{self.path.name}: llama.cpp cannot load it")
        self._vocab = api.llama_model_get_vocab(self._model)
        parameters = api.llama_context_default_params()
        parameters.n_ctx = n_ctx
        parameters.n_batch = parameters.n_ubatch = n_batch
        parameters.n_threads = parameters.n_threads_batch = threads or min(8, os.cpu_count() or 1)
        parameters.type_k = parameters.type_v = self.kv_type
        parameters.flash_attn_type = 1 if flash_attention else 0
        parameters.swa_full = swa_full
        self._callback = api.ggml_backend_sched_eval_callback(self._see)  # kept: llama.cpp holds the pointer
        parameters.cb_eval = self._callback
        self._context = api.llama_init_from_model(self._model, parameters)
        if not self._context:
            self.close()
            raise RuntimeError(f"{self.path.name}: llama.cpp cannot make a context of {n_ctx} tokens")

    def close(self) -> None:
        """Frees context and model; closing twice is fine."""
        if self._context:
            api.llama_free(self._context)
            self._context = None
        if self._model:
            api.llama_model_free(self._model)
            self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------- the model

    @property
    def n_layer(self) -> int:
        """Layers that have a KV cache."""
        return int(api.llama_model_n_layer(self._model))

    def _metadata(self, key: str) -> str | None:
        """A value of the file's metadata as text, ``key`` without the architecture's name; arrays are ``[a, b]``."""

        architecture = self._metadata_of("general.architecture")
        return None if architecture is None else self._metadata_of(f"{architecture}.{key}")

    def _metadata_of(self, name: str) -> str | None:
        buffer = ctypes.create_string_buffer(4096)
        length = api.llama_model_meta_val_str(self._model, name.encode(), buffer, len(buffer))
        return buffer.value.decode() if 0 <= length < len(buffer) else None

    @property
    def kv_heads(self) -> list[int]:
        """KV heads of every layer."""
        listed = self._metadata("attention.head_count_kv")
        if listed is not None and listed.startswith("["):
            return [int(count) for count in listed.strip("[]").split(",")]
        return [int(api.llama_model_n_head_kv(self._model))] * self.n_layer

    @property
    def head_dim(self) -> int:
        """Channels of one query or key head."""
        stated = self._metadata("attention.key_length")
        return int(stated) if stated else int(api.llama_model_n_embd(self._model)) // self.q_heads

    @property
    def _value_dim(self) -> int:
        stated = self._metadata("attention.value_length")
        return int(stated) if stated else self.head_dim

    @property
    def q_heads(self) -> int:
        """Query heads of a layer."""
        return int(api.llama_model_n_head(self._model))

    @property
    def sliding_window(self) -> int:
        """Tokens that a sliding-window layer looks back on; 0 if the model has no such layers."""
        return int(api.llama_model_n_swa(self._model))

    @property
    def rotary_pairs(self) -> NDArray[np.int64]:
        """``[dim / 2, 2]``: the channels of a head that RoPE rotates together, the fastest pair first.

        Raises RuntimeError where the model has no RoPE, or one of several dimensions.
        """
        half = self.head_dim // 2
        kind = api.llama_model_rope_type(self._model)
        if kind == api.LLAMA_ROPE_TYPE_NORM:
            return np.arange(2 * half).reshape(half, 2)
        if kind == api.LLAMA_ROPE_TYPE_NEOX:
            return np.stack([np.arange(half), np.arange(half) + half], axis=1)
        raise RuntimeError(f"RoPE type {kind}: wanted {api.LLAMA_ROPE_TYPE_NORM} or {api.LLAMA_ROPE_TYPE_NEOX}")

    @property
    def state_layers(self) -> list[int]:
        """The model's layer behind each layer of an exported state: a sliding-window model's state has its
        full-attention layers first.

        Found by comparing the keys that a few tokens produce with those that the state holds, once; the first use
        forgets everything evaluated.
        """
        if self._state_layers is None:
            self._state_layers = self._match_layers()
        return self._state_layers

    def _match_layers(self) -> list[int]:
        tokens = self.tokenize("Which layer of the state is which layer of the model?")
        self.clear()
        self._capturing_keys = True
        try:
            with self.capture_queries(len(tokens)):
                self.evaluate(tokens, 0)
        finally:
            self._capturing_keys = False
        keys = {layer: np.concatenate(parts) for layer, parts in self._keys.items()}
        planes = [plane for stream in parse(self.export_state()).streams for plane in stream.keys]
        self.clear()
        order: list[int] = []
        for plane in planes:
            held = plane.values(1).reshape(len(tokens), -1)
            distance = {
                layer: float(np.abs(rows.reshape(len(tokens), -1) - held).max() / np.abs(held).max())
                for layer, rows in keys.items()
                if rows.size == held.size
            }
            # 1/128: one rounding to the coarsest cache type, bf16, with room.
            if not distance or min(distance.values()) > 1 / 128:
                raise RuntimeError(f"layer {len(order)} of the state holds the keys of no layer of the model")
            order.append(min(distance, key=distance.__getitem__))
        if sorted(order) != list(range(self.n_layer)):
            raise RuntimeError(f"the state's layers are the model's {order}: wanted each of {self.n_layer} once")
        return order

    @property
    def n_vocab(self) -> int:
        """Size of a logits row."""
        return int(api.llama_vocab_n_tokens(self._vocab))

    @property
    def description(self) -> str:
        """llama.cpp's own words for the model."""
        buffer = ctypes.create_string_buffer(256)
        api.llama_model_desc(self._model, buffer, 256)
        return buffer.value.decode(errors="replace")

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that name these weights: SHA-256 of the file, kept beside it for the file's size and time."""
        return fingerprint_of(self.path)

    @property
    def start_tokens(self) -> tuple[int, ...]:
        """What every prompt begins with: the begin-of-sequence token, or nothing."""
        return tuple(self.tokenize("", add_bos=True))

    def tokenize(self, text: str, add_bos: bool = True) -> list[int]:
        """Token ids of a text."""
        raw = text.encode()
        room = len(raw) + 16
        out = (api.llama_token * room)()
        count = api.llama_tokenize(self._vocab, raw, len(raw), out, room, add_bos, False)
        if count < 0:
            raise RuntimeError(f"tokenizer wants room for {-count} tokens, had {room}")
        return [int(token) for token in out[:count]]

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Text of token ids."""
        raw = b""
        for token in tokens:
            buffer = ctypes.create_string_buffer(512)
            count = api.llama_token_to_piece(self._vocab, int(token), buffer, 512, 0, True)
            raw += buffer.raw[: max(count, 0)]
        return raw.decode(errors="replace")

    # -------------------------------------------------------------------------------------------- evaluate

    def evaluate(
        self,
        tokens: Sequence[int],
        position: int,
        logits: Literal["none", "last", "all"] = "none",
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32] | None:
        """Evaluates tokens from ``position`` on. Logits are ``[len(tokens), n_vocab]`` for "all", ``[1, n_vocab]`` for
        "last". ``progress(done, total)`` is called after every batch."""
        rows: list[NDArray[np.float32]] = []
        total = len(tokens)
        for begin in range(0, total, self.n_batch):
            part = tokens[begin : begin + self.n_batch]
            batch = api.llama_batch_init(len(part), 0, 1)
            try:
                batch.n_tokens = len(part)
                for i, token in enumerate(part):
                    batch.token[i] = int(token)
                    batch.pos[i] = position + begin + i
                    batch.n_seq_id[i] = 1
                    batch.seq_id[i][0] = 0
                    last = begin + i == total - 1
                    batch.logits[i] = logits == "all" or (logits == "last" and last)
                self._capturing = self._wanted_queries > 0 and total - begin - len(part) < self._wanted_queries
                self._batch_position = position + begin
                with _interrupt_afterwards():
                    status = api.llama_decode(self._context, batch)
                if self._rewrite_error is not None:
                    raise self._rewrite_error
                if status != 0:
                    raise RuntimeError(
                        f"llama_decode gave {status} at position {position + begin} of {position + total}"
                    )
                count = len(part) if logits == "all" else int(logits == "last" and begin + len(part) == total)
                if count:
                    pointer = api.llama_get_logits(self._context)
                    rows.append(np.ctypeslib.as_array(pointer, shape=(count, self.n_vocab)).copy())
            finally:
                self._capturing = False
                api.llama_batch_free(batch)
            if progress is not None:
                progress(min(begin + self.n_batch, total), total)
        return np.concatenate(rows) if rows else None

    def greedy(
        self, logits: NDArray[np.float32], position: int, count: int, margins: list[float] | None = None
    ) -> list[int]:
        """``count`` most likely tokens, the first from ``logits`` (``[n_vocab]``), each evaluated from ``position`` on.

        ``margins`` gets, for each, how far its logit is above the next: nats.
        """
        out: list[int] = []
        row = logits
        for i in range(count):
            token = int(row.argmax())
            out.append(token)
            if margins is not None:
                second, first = np.partition(row, -2)[-2:]
                margins.append(float(first) - float(second))
            if i + 1 < count:
                result = self.evaluate([token], position + i, "last")
                assert result is not None
                row = result[0]
        return out

    # ---------------------------------------------------------------------------------------------- state

    def export_state(self) -> NDArray[np.uint8]:
        """The sequence's state, llama_state_seq_get_data."""
        size = api.llama_state_seq_get_size(self._context, 0)
        blob = np.empty(size, np.uint8)
        written = api.llama_state_seq_get_data(self._context, blob.ctypes.data_as(_U8P), size, 0)
        if written == 0:
            raise RuntimeError("llama.cpp could not export the state")
        return blob[:written]

    def import_state(self, blob: NDArray[np.uint8]) -> None:
        """Replaces the sequence by a state. Raises RuntimeError if llama.cpp refuses it; then the sequence is empty."""
        self.clear()
        blob = np.ascontiguousarray(blob, np.uint8)
        if api.llama_state_seq_set_data(self._context, blob.ctypes.data_as(_U8P), blob.size, 0) == 0:
            raise RuntimeError(f"llama.cpp refused a state of {blob.size} bytes")

    def clear(self) -> None:
        """Forgets everything evaluated."""
        api.llama_memory_clear(api.llama_get_memory(self._context), True)

    # -------------------------------------------------------------------------------------------- queries

    @contextmanager
    def capture_queries(self, last: int = 16) -> Iterator[None]:
        """While active, :meth:`evaluate` keeps the post-RoPE queries of its last ``last`` tokens; see :attr:`queries`."""
        self._wanted_queries = last
        self._queries, self._keys = {}, {}
        try:
            yield
        finally:
            self._capturing = False
            last_of = {layer: np.concatenate(parts)[-last:] for layer, parts in self._queries.items()}
            self._queries = {layer: [rows] for layer, rows in last_of.items()}
            self._wanted_queries = 0

    @property
    def queries(self) -> list[NDArray[np.float32]]:
        """Per layer ``[n, q_heads, dim]`` float32, after :meth:`capture_queries`. Channels are in the order of the K rows
        of an exported state."""
        if sorted(self._queries) != list(range(self.n_layer)):
            raise RuntimeError(f"queries of {len(self._queries)} of {self.n_layer} layers were captured")
        return [self._queries[layer][0] for layer in range(self.n_layer)]

    @contextmanager
    def rewrite_projections(self, rewrite: Rewrite) -> Iterator[None]:
        """While active, every layer's K and V projections pass through ``rewrite`` before anything else (norms, RoPE)
        reads them. What it raises, :meth:`evaluate` raises."""
        self._rewrite, self._rewrite_error = rewrite, None
        try:
            yield
        finally:
            self._rewrite = self._rewrite_error = None

    def _see_projection(self, tensor: Any, ask: bool, rewrite: Rewrite) -> bool:
        name: bytes = self._ggml.ggml_get_name(tensor)
        half: Literal["K", "V"] = "K" if name.startswith(b"Kcur-") else "V"
        if not name.startswith((b"Kcur-", b"Vcur-")) or self._ggml.ggml_op_desc(tensor) != b"MUL_MAT":
            return not ask
        if ask:
            return True
        layer = int(name[5:])
        values = np.empty(self._ggml.ggml_nbytes(tensor) // 4, np.float32)
        self._ggml.ggml_backend_tensor_get(tensor, values.ctypes.data, 0, values.nbytes)
        try:
            width = self.kv_heads[layer] * (self.head_dim if half == "K" else self._value_dim)
            rows = values.reshape(-1, width)
            changed = np.ascontiguousarray(rewrite(half, layer, self._batch_position, rows), np.float32)
            if changed.shape != rows.shape:
                raise ValueError(f"rewritten rows of shape {changed.shape}: wanted {rows.shape}")
        except Exception as error:  # must not cross llama.cpp's C frames
            self._rewrite_error = self._rewrite_error or error
            return True
        self._ggml.ggml_backend_tensor_set(tensor, changed.ctypes.data, 0, changed.nbytes)
        return True

    def _see(self, tensor: Any, ask: bool, _data: Any) -> bool:
        if self._rewrite is not None:
            return self._see_projection(tensor, ask, self._rewrite)
        # "Qcur-<layer>" is the name before and after RoPE; the rotated one is ggml's ROPE operation.
        if not self._capturing:
            return not ask
        name: bytes = self._ggml.ggml_get_name(tensor)
        wanted = name.startswith(b"Qcur-") or (self._capturing_keys and name.startswith(b"Kcur-"))
        if not (wanted and self._ggml.ggml_op_desc(tensor) == b"ROPE"):
            return not ask
        if not ask:
            values = np.empty(self._ggml.ggml_nbytes(tensor) // 4, np.float32)
            self._ggml.ggml_backend_tensor_get(tensor, values.ctypes.data, 0, values.nbytes)
            if name.startswith(b"Q"):
                self._queries.setdefault(int(name[5:]), []).append(values.reshape(-1, self.q_heads, self.head_dim))
            else:
                self._keys.setdefault(int(name[5:]), []).append(values)
        return True
