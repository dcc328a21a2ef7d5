"""`fbr-plugin pipeline`: stages from image labels to scored masks, each kept, resumed and reported."""
