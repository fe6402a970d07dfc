"""Training of one network by several processes: what ``fit`` does with a process group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convec import utils

if TYPE_CHECKING:
    from convec._core import Network
    from convec.distributed import Communicator, Work

__all__ = ["Parallel", "parallel"]


class Parallel:
    """The processes ("ranks") that train a network together; one process alone where there is no group.

    Args:
        group: the process group, or None.
        sharded: whether each rank has its own part of the data.
    """

    def __init__(self, group: Communicator | None, sharded: bool) -> None:
        self._group = group
        self.rank = 0 if group is None else group.rank
        self.ranks = 1 if group is None else group.size
        self.sharded = sharded and group is not None

    def own_batch_size(self, size: int) -> int:
        """This rank's samples of a step. Raises ValueError where there are fewer samples than ranks."""
        if not self.sharded:
            return size
        if size < self.ranks:
            raise ValueError(f"batch_size is {size}, but must be at least {self.ranks}, one sample for each rank")
        return size * (self.rank + 1) // self.ranks - size * self.rank // self.ranks

    def most(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        return self._reduced(number, "max")

    def any(self, flag: bool) -> bool:
        """Whether a rank says so."""
        return bool(self._reduced(int(flag), "max"))

    def all(self, flag: bool) -> bool:
        """Whether all ranks say so."""
        return bool(self._reduced(int(flag), "min"))

    def _reduced(self, number: int, op: Any) -> int:
        if self._group is None:
            return number
        return int(self._group.all_reduce_host(np.array([number], np.int64), op)[0])

    def learning_rate(self, rate: float) -> float:
        """Rank 0's learning rate."""
        return rate if self._group is None else float(self._group.broadcast_host(np.array([rate], np.float64))[0])

    def share(self, network: Network, state: Any) -> Any:
        """Gives all ranks the weights, the optimizer and the random generator of rank 0.

        Args:
            network: the compiled network.
            state: what else rank 0 knows, of values that JSON holds.

        Returns:
            Rank 0's ``state``.

        Raises:
            ValueError: the ranks' networks differ.
        """
        group = self._group
        if group is None:
            return state
        infos = network.parameters()
        slots = [network.get_optimizer_slots(index) for index in range(len(infos))]
        form = [[info["name"], list(info["shape"]), len(arrays)] for info, arrays in zip(infos, slots, strict=True)]
        forms = group.all_gather_object(form)
        for rank, other in enumerate(forms):
            if other != forms[0]:
                raise ValueError(f"rank {rank} trains a network of other layers or another optimizer than rank 0")
        for index, arrays in enumerate(slots):
            value = network.get_parameter(index)
            for array in (value, *arrays):
                group.broadcast_host(array)
            network.set_parameter(index, value)
            network.set_optimizer_slots(index, arrays)
        random = utils.generator().bit_generator
        numbers = {
            "iterations": network.iterations,
            "learning_rate": network.learning_rate,
            "seed": network.seed,
            "random": random.state,
            "state": state,
        }
        numbers = group.broadcast_object(numbers)
        network.iterations = numbers["iterations"]
        network.learning_rate = numbers["learning_rate"]
        network.set_seed(numbers["seed"])
        random.state = numbers["random"]
        return numbers["state"]


class _HostExchange:
    """Adds up gradients in the host's memory."""

    on_device = False
    synchronize: Callable[[], None] | None = None

    def __init__(self, group: Communicator) -> None:
        self._group = group
        self._begun: list[Work] = []

    def all_reduce(self, array: npt.NDArray[np.float32]) -> None:
        for work in self._begun:
            work.test()  # MPI goes on with what it has begun only within calls
        self._begun.append(self._group.all_reduce_start(array))

    def wait(self) -> None:
        for work in self._begun:
            work.wait()
        self._begun.clear()


class _GpuExchange:
    """Adds up gradients where they are, between the work on the network's stream, for which the host does not wait."""

    on_device = True

    def __init__(self, group: Communicator, network: Network) -> None:
        import cupy

        self._group = group
        self._cupy = cupy
        self._stream = cupy.cuda.ExternalStream(network.stream)
        self._begun: list[Work] = []

    def all_reduce(self, address: int, count: int) -> None:
        memory = self._cupy.cuda.UnownedMemory(address, 4 * count, self)
        array = self._cupy.ndarray((count,), np.float32, self._cupy.cuda.MemoryPointer(memory, 0))
        with self._stream:
            self._begun.append(self._group.all_reduce_start(array))

    def wait(self) -> None:
        with self._stream:
            for work in self._begun:
                work.block_current_stream()
        self._begun.clear()

    def synchronize(self) -> None:
        self._group.synchronize(self._stream)


@contextmanager
def parallel(network: Network, sharded: bool) -> Iterator[Parallel]:
    """Lets a network train and evaluate together with the other ranks, where there is a process group.

    Raises:
        RuntimeError: the group is of another kind than the network's device.
    """
    from convec import distributed

    if distributed.get_world_size() == 1:
        yield Parallel(None, False)
        return
    group = distributed.get_communicator()
    if group.backend == "nccl" and network.device == "cpu":
        raise RuntimeError(
            "the process group's backend is 'nccl', but the network is on the CPU: call init_process_group('mpi'), or "
            "build the model for a GPU (convec.set_device('cuda'))"
        )
    exchange = _GpuExchange(group, network) if group.backend == "nccl" else _HostExchange(group)
    network.set_data_parallel(
        rank=group.rank,
        ranks=group.size,
        all_reduce=exchange.all_reduce,
        wait=exchange.wait,
        all_reduce_totals=group.all_reduce_host,
        sharded=sharded,
        on_device=exchange.on_device,
        synchronize=exchange.synchronize,
    )
    try:
        yield Parallel(group, sharded)
    finally:
        network.set_data_parallel()
