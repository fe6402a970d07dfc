"""Where the processes of a job find each other without MPI: a small store that rank 0 serves at MASTER_ADDR.

Both sides prove that they know the job's token (HMAC-SHA256 of a fresh random number, RFC 2104) before anything else is
read, so that only the job's ranks can join. What is exchanged is small and no secret, and is not encrypted.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Mapping
from typing import Any

from convec.distributed.communicator import ranks_text, wait_until
from convec.distributed.launch import Launch

__all__ = ["Store", "token_of"]

_NONCE = 32
_LARGEST = 1 << 20  # bytes of a message
_HANDSHAKE_SECONDS = 5.0


def token_of(started: Launch, environ: Mapping[str, str] | None = None) -> bytes:
    """The job's token: CONVEC_TOKEN, else what the launcher gave all processes of the job and no other job.

    Raises:
        RuntimeError: there is none, and the job has more than one host.
    """
    environ = os.environ if environ is None else environ
    if environ.get("CONVEC_TOKEN"):
        return environ["CONVEC_TOKEN"].encode()
    run = environ.get("TORCHELASTIC_RUN_ID", "")
    if run and run != "none":
        return f"torchrun {run}".encode()
    if environ.get("SLURM_JOB_ID"):
        return f"SLURM {environ['SLURM_JOB_ID']} {environ.get('SLURM_STEP_ID', '')} {os.getuid()}".encode()
    if started.local_size == started.size:
        return f"host {os.getuid()} {os.getppid()}".encode()
    raise RuntimeError(
        "the job has no token that its ranks could know each other by: set CONVEC_TOKEN to the same random text on all "
        "hosts, or start it by torchrun with --rdzv-id"
    )


def address_of(started: Launch, environ: Mapping[str, str] | None = None) -> tuple[str, int]:
    """Host and port of the store, from MASTER_ADDR and MASTER_PORT.

    torchrun's own agent listens on MASTER_PORT where TORCHELASTIC_USE_AGENT_STORE says so; the store is one port above.

    Raises:
        RuntimeError: they are not set, or not a port.
    """
    environ = os.environ if environ is None else environ
    host = environ.get("MASTER_ADDR", "127.0.0.1" if started.local_size == started.size else "")
    if not host:
        raise RuntimeError("MASTER_ADDR is not set: set it to the host of rank 0, and MASTER_PORT to a free port there")
    text = environ.get("MASTER_PORT", "29500")
    if not text.isdigit() or not 0 < int(text) < 65535:
        raise RuntimeError(f"the environment variable MASTER_PORT is {text!r}, but must be a port below 65535")
    return host, int(text) + (environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True")


class Store:
    """Keys and values that all ranks see.

    Args:
        rank, size: this process's place in the job.
        address: host and port; rank 0 listens there.
        token: the same on all ranks.
        timeout: seconds until all have joined, and for each ``get``.

    Raises:
        RuntimeError: not all joined in time (the message names who did not), or the token was refused.
    """

    def __init__(self, rank: int, size: int, address: tuple[str, int], token: bytes, timeout: float) -> None:
        self._rank = rank
        self._size = size
        self._address = address
        self._token = token
        self._timeout = timeout
        self._values: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._joined = {0}
        self._closed = False
        self._lock = threading.Lock()
        self._socket: socket.socket
        deadline = time.monotonic() + timeout
        if rank == 0:
            self._socket = self._listen()
            threading.Thread(target=self._accept, name="convec-store", daemon=True).start()
            if not wait_until(lambda: len(self._joined) == size, deadline):
                missing = [other for other in range(size) if other not in self._joined]
                problem = f"{ranks_text(missing, size)} did not join within {timeout:g} s"
                self.set("problem", problem)
                self.close()
                raise RuntimeError(problem)
            self.set("problem", "")
        else:
            self._socket = self._connect(deadline)
            problem = self.get("problem", timeout + _HANDSHAKE_SECONDS)
            if problem:
                self.close()
                raise RuntimeError(problem)

    # ---- Both sides ----

    def set(self, key: str, value: Any) -> None:
        """Sets a value, which JSON holds."""
        if self._rank == 0:
            with self._changed:
                self._values[key] = value
                self._changed.notify_all()
        else:
            self._ask({"set": key, "value": value}, self._timeout)

    def get(self, key: str, timeout: float | None = None) -> Any:
        """A value, once somebody has set it.

        Raises:
            RuntimeError: nobody did within the timeout, or rank 0 is gone.
        """
        seconds = self._timeout if timeout is None else timeout
        if self._rank == 0:
            with self._changed:
                found = self._changed.wait_for(lambda: key in self._values, seconds)
                if not found:
                    raise RuntimeError(f"no rank has set {key!r} within {seconds:g} s")
                return self._values[key]
        answer = self._ask({"get": key, "seconds": seconds}, seconds + _HANDSHAKE_SECONDS)
        if "value" not in answer:
            raise RuntimeError(f"no rank has set {key!r} within {seconds:g} s")
        return answer["value"]

    def close(self) -> None:
        """Ends this rank's part. What rank 0 has set is still served to those who wait for it."""
        self._closed = True
        # A shutdown wakes the thread that accepts.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    # ---- Rank 0 ----

    def _listen(self) -> socket.socket:
        try:
            family, *_, address = socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM)[0]
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            host, port = self._address
            raise RuntimeError(
                f"rank 0 cannot listen on {host}:{port} ({error}); MASTER_ADDR must be an address of its host, and "
                "MASTER_PORT free there"
            ) from error
        listener.listen(self._size)
        return listener

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError, KeyError):
            connection.settimeout(_HANDSHAKE_SECONDS)
            nonce = secrets.token_bytes(_NONCE)
            connection.sendall(nonce)
            hello = _read(connection, _NONCE + 4 + 32)
            theirs, packed, proof = hello[:_NONCE], hello[_NONCE : _NONCE + 4], hello[_NONCE + 4 :]
            if not hmac.compare_digest(proof, self._proof(b"join", nonce, packed)):
                return
            (rank,) = struct.unpack("!I", packed)
            with self._changed:
                if not 0 < rank < self._size or rank in self._joined:
                    return
                self._joined.add(rank)
            connection.sendall(self._proof(b"serve", theirs, packed))
            connection.settimeout(None)
            while True:
                _send(connection, self._answer(_receive(connection)))

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if "set" in request:
            self.set(str(request["set"]), request["value"])
            return {}
        try:
            return {"value": self.get(str(request["get"]), float(request["seconds"]))}
        except RuntimeError:
            return {}

    # ---- The others ----

    def _connect(self, deadline: float) -> socket.socket:
        host, port = self._address
        while True:
            try:
                connection = socket.create_connection(self._address, timeout=_HANDSHAKE_SECONDS)
                break
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise RuntimeError(
                        f"rank 0 of {self._size} did not answer at {host}:{port} within {self._timeout:g} s ({error}); "
                        "MASTER_ADDR and MASTER_PORT must be the same on all ranks"
                    ) from error
                time.sleep(0.05)
        packed = struct.pack("!I", self._rank)
        try:
            nonce = _read(connection, _NONCE)
            own = secrets.token_bytes(_NONCE)
            connection.sendall(own + packed + self._proof(b"join", nonce, packed))
            genuine = hmac.compare_digest(_read(connection, 32), self._proof(b"serve", own, packed))
        except OSError:
            genuine = False
        if not genuine:
            connection.close()
            raise RuntimeError(
                f"{host}:{port} refused rank {self._rank}: another job is there, the token (CONVEC_TOKEN) differs, "
                "or this rank has joined already"
            )
        return connection

    def _ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        try:
            with self._lock:
                self._socket.settimeout(seconds)
                _send(self._socket, request)
                return _receive(self._socket)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"rank 0 of {self._size} is gone, or does not answer: {error}") from error

    def _proof(self, purpose: bytes, nonce: bytes, rank: bytes) -> bytes:
        return hmac.new(self._token, purpose + nonce + rank, hashlib.sha256).digest()


def _read(connection: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        part = connection.recv(count - len(content))
        if not part:
            raise OSError("the connection was closed")
        content += part
    return content


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    content = json.dumps(message).encode()
    connection.sendall(struct.pack("!I", len(content)) + content)


def _receive(connection: socket.socket) -> dict[str, Any]:
    (count,) = struct.unpack("!I", _read(connection, 4))
    if count > _LARGEST:
        raise ValueError(f"a message of {count} bytes is longer than {_LARGEST}")
    message = json.loads(_read(connection, count))
    if not isinstance(message, dict):
        raise ValueError("a message is no JSON object")
    return message
