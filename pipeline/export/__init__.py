"""What turns a run into a dataset for training: rows, labels, captions, splits, files of each format and a card."""
