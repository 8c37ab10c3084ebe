"""One module per stage: ``compute_*`` is pure, ``run_*_shard`` reads, computes and writes. No stage imports another."""
