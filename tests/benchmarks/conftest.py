"""The benchmark is a folder of scripts, which import each other by name."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
