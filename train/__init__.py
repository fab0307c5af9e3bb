"""The lean trainer: reads the difficulty table and trains on it in the order of a curriculum."""

import os

os.environ.setdefault("USE_HUB_KERNELS", "NO")  # with `kernels` installed, transformers fetches code for some models
