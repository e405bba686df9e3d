"""How gunicorn serves a yardstick: one worker, and otherwise as it serves Roster."""

accesslog = None
worker_class = "gthread"
workers = 1
threads = 4
keepalive = 75  # seconds
timeout = 120  # seconds; a naive reply of 100,000 entries takes its time
graceful_timeout = 1  # second
forwarder_headers = ""
header_map = "refuse"
control_socket_disable = True
