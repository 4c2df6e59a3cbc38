"""Makes what these tests share (the conformance suite, the toy engine) importable by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
