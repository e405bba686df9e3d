"""The metrics for Prometheus: counted in each worker, and gathered from all of them.

Without the extra ``metrics`` nothing here runs.
"""
