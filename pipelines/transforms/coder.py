"""How Beam carries a shard between steps that run in different processes, and what it takes for its size."""

from apache_beam.coders import PickleCoder
from apache_beam.coders.coder_impl import CallbackCoderImpl
from curricle.pipelines.transforms.shards import ShardBatch


class ShardBatchCoder(PickleCoder):
    """Beam's own coder of objects, but for the size: Beam asks for it again and again between the steps of one process,
    and would pickle millions of tokens to learn it.
    """

    def _create_impl(self) -> CallbackCoderImpl:
        pickled = super()._create_impl()
        return CallbackCoderImpl(pickled.encode, pickled.decode, self.estimate_size)

    def estimate_size(self, value: ShardBatch) -> int:
        """Bytes of the examples and of what was rejected, which most of a shard is."""
        size: int = value.examples.nbytes + value.rejects.nbytes
        return size
