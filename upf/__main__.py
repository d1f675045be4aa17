"""`python -m upf --config FILE --control-fd N`"""

import sys

from node.main import run
from upf.config import UpfConfig
from upf.node import Upf

if __name__ == "__main__":
    sys.exit(run(Upf, UpfConfig))
