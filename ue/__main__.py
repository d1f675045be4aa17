"""`python -m ue --config FILE --control-fd N`"""

import sys

from node.main import run
from ue.config import UeConfig
from ue.node import Ue

if __name__ == "__main__":
    sys.exit(run(Ue, UeConfig))
