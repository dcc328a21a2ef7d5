"""Speed and memory beside the released code: what is compared, how it is timed, and the table."""
