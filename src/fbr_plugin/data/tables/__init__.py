"""Tables of image labels, `labels.csv`, made from other files."""
