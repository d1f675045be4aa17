"""`python -m control.amf --config FILE --control-fd N`"""

import sys

from control.amf.amf import Amf
from control.amf.config import AmfConfig
from node.main import run

sys.exit(run(Amf, AmfConfig))
