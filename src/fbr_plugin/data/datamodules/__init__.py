"""Lightning data modules, a file a data set."""
