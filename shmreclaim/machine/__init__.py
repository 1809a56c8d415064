"""What a design runs on: compiled functions, atomics, futexes, the segment and its CPU slots."""
