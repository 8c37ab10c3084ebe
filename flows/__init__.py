"""Prefect flows over the stages: order, shards and progress, no arithmetic."""
