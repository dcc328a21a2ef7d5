"""The way from image labels to scored masks as one command: stages that are kept, resumed and reported."""
