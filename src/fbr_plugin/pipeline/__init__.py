"""`fbr-plugin pipeline`: stages from image labels to scored masks, each cached, resumed and reported."""
