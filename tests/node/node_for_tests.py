"""A node that does nothing of its own: started as a process by test_node_process.py."""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

from node.errors import ConfigError, VerbError
from node.main import NodeContext, run
from node.netns import Netns


@dataclass(frozen=True, slots=True)
class Config:
    node: str
    behave: str = ""


class TestNode:
    """Node for tests."""

    def __init__(self, config: Config, context: NodeContext) -> None:
        self.config, self.context = config, context
        self.stopped = False
        context.channel.verb("echo", self.echo)
        context.channel.verb("refuse", self.refuse)
        context.channel.verb("fault", self.fault)
        context.channel.verb("hang", self.hang)
        context.channel.verb("die", self.die)

    async def start(self) -> None:
        if self.config.behave == "bad":
            raise ConfigError("behave: nobody can do that")
        if self.config.behave == "never ready":
            await asyncio.Event().wait()
        with Netns() as ns:
            self.context.channel.hand_over_netns("3gpp", ns.fd, devices=["wire"])
        self.context.events.emit("started", behave=self.config.behave)

    async def stop(self) -> None:
        self.context.events.emit("stopped")

    async def echo(self, args: dict[str, Any]) -> Any:
        return args

    async def refuse(self, args: dict[str, Any]) -> Any:
        raise VerbError("no_way", "this is refused")

    async def fault(self, args: dict[str, Any]) -> Any:
        raise KeyError("fault")

    async def hang(self, args: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    async def die(self, args: dict[str, Any]) -> Any:
        async def fail() -> None:
            raise RuntimeError("a background task failed")

        self.context.spawn(fail(), "fail")

    def status(self) -> dict[str, Any]:
        return {"behave": self.config.behave}

    def metrics(self) -> dict[str, Any]:
        return {"n": 1}


if __name__ == "__main__":
    sys.exit(run(TestNode, Config))
