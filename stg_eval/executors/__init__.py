"""Executors: where generation runs. A task is a batch of requests; it is idempotent, and only the driver writes."""
