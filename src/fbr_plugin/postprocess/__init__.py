"""Post-processing: from a network's scores to seeds, masks and their files."""
