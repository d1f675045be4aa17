"""`python -m ue --config FILE --control-fd N`"""

import sys

from node.main import NodeContext, run
from ue.config import UeConfig
from ue.node import Ue
from ue.quic import QuicEndpoint
from ue.tun import Tun


def ue(config: UeConfig, context: NodeContext) -> Ue:
    """UE: NAS client, ATSSS rules, MPQUIC client, TUN."""
    return Ue(config, context, Tun, QuicEndpoint)


if __name__ == "__main__":
    sys.exit(run(ue, UeConfig))
