"""The programs that play CPUs. Installed as `shmreclaim.workers`."""
