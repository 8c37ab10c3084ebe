"""The gallery of a run: one static folder that opens in any browser, from a disk or from object storage."""
