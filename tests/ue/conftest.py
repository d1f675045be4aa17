"""The UE's tests use the control room's kit: a real AMF and SMF with a scripted UPF."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "control"))
