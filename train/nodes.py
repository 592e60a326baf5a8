"""Several machines that train together: which of them this is, and where their processes meet.

The same command is given on every machine, with a file system that they share. The first one (node 0) prepares the
folder and follows the training; the others lend their processes. Which one a machine is says the environment variable
NODE_RANK, or Slurm.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..base.errors import PrefmillError
from .launch_settings import LaunchSettings

_RANKS = ("NODE_RANK", "SLURM_NODEID")
MEETING_SECONDS = 900
ALONE = {
    **{"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"},
    **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"},  # 0: a port that is free
    "TORCHELASTIC_USE_AGENT_STORE": "False",
}
"""What torch.distributed.run would tell a worker that is alone: it is started without, a process with torch less."""


@dataclass(frozen=True)
class Node:
    """One of `count` machines."""

    rank: int = 0
    count: int = 1
    rendezvous: str = ""
    """host:port of node 0."""

    @property
    def is_first(self) -> bool:
        """Return whether this one prepares, follows and finishes the training."""
        return self.rank == 0

    @property
    def is_local(self) -> bool:
        """Return whether nothing but this machine can be meant."""
        return self.count == 1 or self.rendezvous.rpartition(":")[0] in {"127.0.0.1", "localhost", "[::1]"}

    def own(self, name: str) -> str:
        """Return the name of a file that every node has one of."""
        return name if self.is_first else f"{name}-{self.rank}"

    def is_alone(self, processes: int) -> bool:
        """Return whether its worker is the only one, so that there is nobody to be met and nothing to keep together."""
        return self.count == processes == 1

    def arguments(self) -> list[str]:
        """Return how torch.distributed.run lets the processes meet."""
        if self.count == 1:  # an address of this machine alone, on a port that is free
            return ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
        return [
            f"--nnodes={self.count}",
            f"--node-rank={self.rank}",
            "--rdzv-backend=static",
            f"--rdzv-endpoint={self.rendezvous}",
            f"--rdzv-conf=timeout={MEETING_SECONDS}",
        ]


def this_node(config: LaunchSettings) -> Node:
    """Return which node this is. Raises PrefmillError where there are several and nothing says which one this is."""
    if config.nodes == 1:
        return Node()
    told = next((f"{name}={os.environ[name]}" for name in _RANKS if name in os.environ), None)
    value = (told or "").partition("=")[2]
    if told is None or not value.isdecimal() or int(value) >= config.nodes:
        raise PrefmillError(
            f"nodes is {config.nodes}, and " + (f"{told} names none of them" if told else "NODE_RANK is not set"),
            f"give the same command on every machine, with NODE_RANK=0 to NODE_RANK={config.nodes - 1} before it",
        )
    return Node(int(value), config.nodes, str(config.rendezvous))


def require_work(config: LaunchSettings, examples: int, at_a_time: int, unit: str = "pairs") -> None:
    """Raise PrefmillError for fewer examples than all processes take at a time: some would be trained on twice."""
    if config.world > 1 and examples < config.world * at_a_time:
        raise PrefmillError(
            f"{config.world} processes with batch_size={at_a_time} take {config.world * at_a_time} {unit} at a time, "
            f"and there are {examples}",
            f"lower batch_size, processes or nodes, or make more {unit}",
        )


def own_of_worker(name: str) -> str:
    """Return the name of the file of the node that a worker runs on."""
    return Node(int(os.environ.get("GROUP_RANK", "0"))).own(name)
