"""Lightning callbacks: figures, files of seeds and masks, whole checkpoints, exact resume."""
