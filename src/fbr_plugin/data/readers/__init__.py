"""Readers of the files in which data sets circulate: images, labels, boxes, instances, pickles."""
