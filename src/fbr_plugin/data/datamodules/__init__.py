"""Lightning data modules, one file per data set."""
