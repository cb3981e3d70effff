"""Training in several processes that `torchrun` starts: gloo on the CPU, NCCL on GPUs.

Every process computes the gradients of its rows of a batch; their sum, the same everywhere, is what each one
steps with. A lone process never touches `torch.distributed`.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from training.errors import ConfigError, ProcessError

Value = TypeVar("Value")

TIMEOUT = timedelta(minutes=30)
"""Longer than any validation, which the others wait for; a process that dies is noticed at once."""
BUCKET_NUMBERS = 2**22
"""Small gradients travel together, up to 16 MB; a larger one goes alone, without a copy."""


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that train together, as one of them sees it; by default it is the only one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process is the one that validates, reports and writes."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The process's own GPU where there are any, else the CPU."""
        return torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")

    def sums(self, *values: float) -> list[float]:
        """Return the sums of numbers over the processes."""
        if self.size == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        with _answering():
            distributed.all_reduce(summed)
        return summed.tolist()

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes; none counts as zero."""
        if self.size == 1:
            return
        for bucket in _buckets(parameters):
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            flat = (
                gradients[0].reshape(-1) if len(bucket) == 1 else torch.cat([g.flatten() for g in gradients])
            )
            with _answering():
                distributed.all_reduce(flat)
            for parameter, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                parameter.grad = part.view_as(parameter)

    def lead(self, value: Value) -> Value:
        """Return the leading process's value; every process waits for it."""
        if self.size == 1:
            return value
        values = [value]
        with _answering():
            distributed.broadcast_object_list(values, device=self.device)
        return values[0]


ALONE = Group()


def processes() -> int:
    """Return how many processes were started together, 1 without `torchrun`."""
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """Return this process's place among them, 0 without `torchrun`."""
    return _number("RANK") if processes() > 1 else 0


@contextmanager
def joined_group() -> Iterator[Group]:
    """Join the processes that `torchrun` started with this one and leave them in the end.

    Raises:
        ConfigError: `torchrun` left out what is needed, or started more processes than there are GPUs.
        ProcessError: the others do not answer.
    """
    if processes() == 1:
        yield ALONE
        return
    group = Group(rank(), processes(), _number("LOCAL_RANK", 0))
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        if group.local_rank >= (gpus := torch.cuda.device_count()):
            raise ConfigError(
                f"process {group.local_rank + 1} of this machine found {gpus} GPUs, expected one for each: "
                f"lower --nproc-per-node, or hide the GPUs with CUDA_VISIBLE_DEVICES="
            )
        torch.cuda.set_device(group.device)
    try:
        with _answering():
            distributed.init_process_group(
                "nccl" if on_gpu else "gloo", rank=group.rank, world_size=group.size, timeout=TIMEOUT
            )
    except ValueError as error:  # a variable that is missing
        raise ConfigError(f"{error}; start several processes with torchrun") from error
    yield group
    distributed.destroy_process_group()  # after an error the others may not be there to take leave of


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # DistBackendError and its kin
        raise ProcessError(
            "another process of this training has stopped or does not answer, see its message "
            f"({str(error).splitlines()[0]}); the same command goes on from the last checkpoint"
        ) from error


def _buckets(parameters: Sequence[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    bucket: list[torch.nn.Parameter] = []
    for parameter in parameters:
        if bucket and sum(p.numel() for p in bucket) + parameter.numel() > BUCKET_NUMBERS:
            yield bucket
            bucket = []
        bucket.append(parameter)
    yield bucket


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise ConfigError(f"{name} is {text!r}, expected a number; start several processes with torchrun")
    return int(text)
