"""The checks of a data set, one file for each kind."""
