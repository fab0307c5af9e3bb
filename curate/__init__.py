"""What is computed: functions from a batch of examples to columns. Knows nothing of Beam."""

import os

os.environ.setdefault("USE_HUB_KERNELS", "NO")  # with `kernels` installed, transformers fetches code for some models
