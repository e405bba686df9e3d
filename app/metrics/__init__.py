"""What Prometheus is told: counted beside the requests, gathered over all workers.

Nothing here is at work where the extra ``metrics`` is not installed.
"""
