"""The only readers of foreign checkpoints; nothing here runs or imports what a file names."""
