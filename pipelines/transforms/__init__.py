"""Beam transforms. One fused chain takes a run of shards from bytes to a finished file each."""
