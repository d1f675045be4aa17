"""`python -m control.smf --config FILE --control-fd N`"""

import sys

from control.smf.config import SmfConfig
from control.smf.smf import Smf
from node.main import run

sys.exit(run(Smf, SmfConfig))
