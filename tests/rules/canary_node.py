"""A node in which the rule that MPQ_CANARY names is removed, for tests that start nodes as processes of their own:
`python -m canary_node --config FILE --control-fd N --canary-of MODULE`."""

from __future__ import annotations

import os
import runpy
import sys

import rule_sabotage


def replace_spawn() -> None:
    """From now on this process starts its nodes so."""
    from node.handle import NodeHandle

    spawn = NodeHandle.spawn.__func__

    async def spawn_without_the_rule(cls, name, module, config, **options):
        options["environment"] = {**(options.get("environment") or {}), **os.environ}       # this module is found, and the rule
        options["arguments"] = ("--canary-of", module, *options.get("arguments", ()))
        return await spawn(cls, name, "canary_node", config, **options)

    NodeHandle.spawn = classmethod(spawn_without_the_rule)


if __name__ == "__main__":
    at = sys.argv.index("--canary-of")
    module = sys.argv[at + 1]
    del sys.argv[at:at + 2]
    rule_sabotage.remove(os.environ["MPQ_CANARY"])
    runpy.run_module(module, run_name="__main__", alter_sys=True)
