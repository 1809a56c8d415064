"""Ways to run a workload under a design: natively, in worker processes."""
