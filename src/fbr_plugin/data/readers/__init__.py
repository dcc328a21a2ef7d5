"""Readers of the file formats of data sets: images, labels, boxes, instances, pickles."""
