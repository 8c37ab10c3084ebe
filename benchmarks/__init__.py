"""Speed of the kernels on this machine, fast against reference."""
