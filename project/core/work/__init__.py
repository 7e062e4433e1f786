"""Due work: claimed rows, the pump that works through them, queues, worker and scheduler."""
