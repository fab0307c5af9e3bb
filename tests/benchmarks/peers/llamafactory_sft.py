"""LLaMA-Factory's supervised fine-tuning: python llamafactory_sft.py. A question is the arguments of a run."""

import os
import sys
import time
from importlib.machinery import ModuleSpec
from types import ModuleType

from answers import answer

sys.modules["torchaudio"] = ModuleType("torchaudio")  # imported at its start, and used for sound alone
sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)

from llamafactory.train.tuner import run_exp  # noqa: E402
from transformers import TrainerCallback  # noqa: E402


class Watch(TrainerCallback):
    """Seconds, and seconds of the processors, between the begin and the end of training: no loading, no saving."""

    def on_train_begin(self, *_, **__) -> None:
        self.began, self.before = time.perf_counter(), time.process_time()

    def on_train_end(self, *_, **__) -> None:
        self.seconds, self.processor = time.perf_counter() - self.began, time.process_time() - self.before


def train(arguments: list[dict]) -> list[float]:
    watch = Watch()
    run_exp(arguments[0], [watch])
    return [watch.seconds, watch.processor]


os.environ["USE_MODELSCOPE_HUB"] = "0"
answer(train)
