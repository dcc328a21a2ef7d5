"""Folder layouts of localization data sets, each read by one class from the data set's own lists."""
