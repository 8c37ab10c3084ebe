"""What a run's stages share: ranges of shards, receipts, closing a stage."""
