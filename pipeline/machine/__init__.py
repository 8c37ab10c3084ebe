"""What depends on the machine: batch sizes, cores, kept memory."""
