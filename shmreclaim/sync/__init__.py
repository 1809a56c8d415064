"""Locks between processes: spinlock, mutex, rwsem, completion, refcount, RCU; sleeping is by futex."""
